"""What a composition is put into effect with: the model, what is loaded, and how it is to be read."""

from collections.abc import Iterator
from typing import NamedTuple

from adapterhub_client.compose.engine.copies import Copies
from adapterhub_client.compose.engine.nodes import Modules
from adapterhub_client.compose.engine.residents import Residents
from adapterhub_client.compose.shelf import Shelf
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Spot


class Manner(NamedTuple):
    """How a composition is asked to act."""

    as_reference: bool = False
    """whether blocks inside blocks and averages are read as the reference library does"""
    skip_layers: frozenset[int] = frozenset()
    """layers in which nothing acts (AdapterDrop)"""
    residents: Residents | None = None
    """the adapters among which rows choose, where the composition is one of rows"""


class Plan(NamedTuple):
    """The circumstances of one activation; every kind of spot binds the composition with it."""

    backbone: Backbone
    shelf: Shelf
    manner: Manner = Manner()
    copies: Copies | None = None
    """where the batch is copied for a parallel block; everywhere behind that it is copied already"""

    @property
    def as_reference(self) -> bool:
        """Whether blocks inside blocks and averages are read as the reference library does."""
        return self.manner.as_reference

    def places(self, kind: type[Spot]) -> Iterator[tuple[Place, Modules]]:
        """Every place of a kind in the layers in use, and what is loaded there."""
        for place in self.backbone.places(kind):
            if place.layer not in self.manner.skip_layers:
                yield place, self.shelf.at(place)
