"""Attach adapters to a frozen model, compose them, and detach without trace."""

import os
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose import heads, training
from adapterhub_client.compose.activation import Activation, FusionWeights
from adapterhub_client.compose.call import call
from adapterhub_client.compose.engine.plan import Manner
from adapterhub_client.compose.exportable import Exportable, exportable
from adapterhub_client.compose.expression import Expression
from adapterhub_client.compose.files import checkpoint, collection, setups
from adapterhub_client.compose.files.collection import Collection
from adapterhub_client.compose.files.folder import Format
from adapterhub_client.compose.files.setups import Setup
from adapterhub_client.compose.files.sources import AdapterFormat, Form, FusionFiles, Sources
from adapterhub_client.compose.generation import generate
from adapterhub_client.compose.heads import Head
from adapterhub_client.compose.lookup import Heads, Lookup
from adapterhub_client.compose.methods import method as methods
from adapterhub_client.compose.methods import prefix
from adapterhub_client.compose.pipelines import pipeline
from adapterhub_client.compose.shelf import LoadedAdapter, LoadedFusion, Shelf
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.weights import adapterdrop, merging, pruning, pruningreport
from adapterhub_client.compose.weights.attended import Batch
from adapterhub_client.compose.weights.folding import Folding
from adapterhub_client.compose.weights.merging import MergeMethod
from adapterhub_client.compose.weights.pruning import Pruned
from adapterhub_client.compose.weights.pruningreport import Cost
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

Folder = str | PathLike[str]
Compat = Literal["adapters"] | None


class Adapted(nn.Module):
    """A transformers model with adapters beside it; the model itself is never changed.

    Everything acts through public forward hooks, which exist only while a composition is active. `state_dict` holds
    what is trainable now, and nothing of a frozen base.

    Two of them are independent in two threads. One of them serves one call at a time, as hooks hand on what they read
    from place to place, and `attention` is that of the last call; share it behind a lock, or attach to a copy per
    thread (`copy.deepcopy`).
    """

    def __init__(
        self,
        model: nn.Module,
        hub: Any = None,  # noqa: ANN401 - any object with `pull`
        *,
        compat: Compat = None,
    ) -> None:
        super().__init__()
        self.compat = usual_compat(compat)
        self.backbone = Backbone(model)
        self.shelf = Shelf()
        self.model = model
        self.training = self.shelf.training = model.training
        self.sources = Sources(self.shelf, self.backbone, model, hub)
        self.lookup = Lookup(self.shelf, self.sources)
        self.folding = Folding(self.backbone, model)
        self.activation = Activation(self.shelf, self.backbone, model)
        self._was_trainable = {n: p.requires_grad for n, p in model.named_parameters()}
        self._was_training = [(module, module.training) for module in model.modules()]

    # ------------------------------------------------------------ what is loaded

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        """The adapters by name."""
        return self.shelf.adapters

    @property
    def fusions(self) -> Mapping[str, LoadedFusion]:
        """The fusions by name."""
        return self.shelf.fusions

    @property
    def heads(self) -> Mapping[str, Any]:
        """The heads by name; each knows its `kind` and `labels`."""
        return self.shelf.heads

    @property
    def active_heads(self) -> Sequence[Head]:
        """The heads a call goes through; empty where the model's own head answers."""
        return tuple(self.activation.heads)

    @property
    def expression(self) -> Expression | None:
        """The composition in effect."""
        return self.activation.expression

    def add(
        self,
        name: str,
        method: str | Mapping[str, Any] | formats.MethodConfig = "seq_bn",
        *,
        leave_out: Iterable[int] = (),
    ) -> str:
        """Add a new adapter with fresh weights; returns its name. It can be left out of some layers (AdapterDrop).

        Raises:
            CompositionError: The name is taken, or something of the method is not supported.
        """
        self._require_free("adapter", name, self.adapters)
        config = methods.read(method, self.backbone)
        if layers := frozenset(leave_out):
            config = adapterdrop.config_without(name, config, layers, self.backbone)
        self.shelf.put("adapter", name, checkpoint.new_adapter(config, self.backbone, empty=False))
        return name

    def add_fusion(
        self,
        *names: str,
        name: str | None = None,
        config: str | Mapping[str, Any] | formats.Fusion = "dynamic",
    ) -> str:
        """Add a new fusion over loaded adapters; returns its name, theirs joined by commas.

        Raises:
            CompositionError: A member is not loaded, or the name is taken.
        """
        own = name or ",".join(names)
        self._require_free("fusion", own, self.fusions)
        members = {member: self.lookup.adapter(member) for member in names}
        if not isinstance(config, formats.Fusion):
            config = formats.read_fusion(config)
        fusion = checkpoint.new_fusion(config, self.backbone, names, members, empty=False)
        self.shelf.put("fusion", own, fusion)
        return own

    def add_head(
        self,
        name: str,
        kind: str = "classification",
        labels: Sequence[str] | None = None,
        **options: Any,  # noqa: ANN401 - each kind has its own
    ) -> str:
        """Add a new head; ``options`` are those of its config: `layers`, `activation_function`, `use_pooler`, ...

        Raises:
            CompositionError: The name is taken, or the kind is not supported.
        """
        self._require_free("head", name, self.heads)
        config = heads.config_of(kind, labels, **options)
        self.shelf.put("head", name, heads.build(config, self.backbone, empty=False))
        return name

    def merge(
        self,
        name: str,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        method: MergeMethod = "linear",
        **options: Any,  # noqa: ANN401 - checked as those of the method
    ) -> str:
        """Make a new adapter of loaded ones of one kind; returns its name.

        ``options``: `normalize`, and `density` and `seed` (TIES, DARE) or `rank` (SVD); see `merging`.
        """
        self._require_free("adapter", name, self.adapters)
        named = [(member, self.lookup.adapter(member)) for member in names]
        merged = merging.merge(named, weights, method, options, self.backbone)
        self.shelf.put("adapter", name, merged)
        return name

    def merge_heads(
        self, name: str, names: Sequence[str], weights: Sequence[float] | None = None
    ) -> str:
        """Make a new head, the weighted sum of heads of one kind, with the same layers and labels; returns its name."""
        self._require_free("head", name, self.heads)
        named = [(head, self.lookup.head(head)) for head in names]
        self.shelf.put("head", name, merging.merge_heads(named, weights, self.backbone))
        return name

    def load(
        self,
        source: Folder,
        name: str | None = None,
        *,
        leave_out: Iterable[int] = (),
        allow_base_mismatch: bool = False,
    ) -> str:
        """Load an adapter, with its head, or a published composition; returns the name to activate.

        ``source`` is a folder or a reference, which is pulled. A composition brings its members, and its name is
        that of its fusion. An adapter can be left out of some layers (AdapterDrop).

        Raises:
            WrongBase: It was trained on another base model.
            NotAnAdapter, Corrupt, IncompatibleAdapter: The folder or its files do not fit.
        """
        return self.sources.load(
            source, name, any_base=allow_base_mismatch, leave_out=frozenset(leave_out)
        )

    def load_fusion(
        self,
        folder: Folder,
        name: str | None = None,
        *,
        form: Form | None = None,
        allow_base_mismatch: bool = False,
    ) -> str:
        """Load a fusion, with the head in its folder; returns its name.

        Without ``form`` it is the trainable one where the folder has that; the compiled one needs no members.
        """
        return self.sources.load_fusion(Path(folder), name, any_base=allow_base_mismatch, form=form)

    def load_head(
        self, folder: Folder, name: str | None = None, *, allow_base_mismatch: bool = False
    ) -> str:
        """Load a head; returns its name, which is ``default`` for the model's own kind of head."""
        return self.sources.load_head(Path(folder), name, any_base=allow_base_mismatch)

    def save(
        self,
        name: str,
        folder: Folder,
        head: str | None = None,
        format: AdapterFormat = "safetensors",  # noqa: A002
    ) -> None:
        """Write an adapter, with its head, as a folder that the `adapters` library loads too.

        Without ``head``, a head of the adapter's own name goes along, or else the model's own where that was trained
        with the adapter. The format ``peft`` is for LoRA, DoRA, (IA)3, and for prefixes with `counts_positions` and
        prompts with `is_input`, as PEFT loads them onto a model of this class. What the folder was before is replaced
        as a whole, once everything is written.
        """
        self.sources.save(name, Path(folder), head, format)

    def save_fusion(
        self,
        name: str,
        folder: Folder,
        head: str | None = None,
        format: Format = "safetensors",  # noqa: A002
        *,
        form: Form = "trainable",
    ) -> None:
        """Write a fusion, with a head, and which published versions its members are.

        The ``compiled`` form is small, exact, and for use only; it needs no members. The ``slim`` one takes a third
        of it from its members, which are loaded with it. ``both`` writes trainable and compiled.
        """
        files = FusionFiles(head, format, form)
        self.sources.save_fusion(name, Path(folder), files, active=self.expression)

    def save_head(self, name: str, folder: Folder, format: Format = "safetensors") -> None:  # noqa: A002
        """Write a head."""
        self.sources.save_head(name, Path(folder), format)

    def load_setup(
        self, folder: Folder, *, activate: bool = False, allow_base_mismatch: bool = False
    ) -> Setup:
        """Load a saved composition with its adapters, fusions and heads, whole or not at all; returns it.

        What the `adapters` library wrote is to be activated with the `compat` that the result has, for its numbers.

        Raises:
            CompositionError: It has blocks that are not supported, or parts that are not there.
        """
        setup = setups.load(Path(folder), self.sources, self.shelf, any_base=allow_base_mismatch)
        if activate:
            self.activate(setup.expression, setup.heads, compat=setup.compat)
        return setup

    def load_all(self, source: Folder, *, allow_base_mismatch: bool = False) -> Collection:
        """Load all adapters, fusions and heads of a folder, whole or not at all; returns their names.

        ``source`` has them in sub-folders, as a trainer's checkpoint, or is a whole model saved with adapters in it.
        """
        return collection.load(Path(source), self.sources, self.shelf, any_base=allow_base_mismatch)

    def save_setup(self, folder: Folder, format: Format = "safetensors") -> None:  # noqa: A002
        """Write the active composition, and in sub-folders what it is made of, so that `adapters` loads it.

        Raises:
            CompositionError: Nothing is active.
        """
        setup = setups.active(self.activation, self.shelf)
        setups.save(Path(folder), setup, self.sources, self.shelf, format)

    def eject(self, name: str) -> None:
        """Replace the network that makes an adapter's prefixes by what it makes, which is all that use needs.

        Raises:
            CompositionError: It is not loaded, a composition is active, or it has no such network.
        """
        self.activation.require_idle()
        if name not in self.adapters:
            raise self.shelf.unknown(name)
        prefix.eject(self.adapters[name])

    def delete(self, name: str) -> None:
        """Forget the adapter, fusion and head of this name.

        Raises:
            CompositionError: Nothing has the name, or it is active.
        """
        self.shelf.drop(name)

    # ------------------------------------------------------------ what is active

    def activate(
        self,
        composition: str | Expression | None,
        head: Heads = None,
        *,
        compat: Compat = None,
        skip_layers: Iterable[int] = (),
    ) -> None:
        """Put a composition into effect, in place of the one before.

        ``composition`` is an expression, the name of a fusion, a published composition's reference, or None for heads
        alone. Without ``head``, the head that has the name of the composition's last adapter or of its fusion is
        used, or that came with the fusion, if there is one; False uses none. A parallel or batch-split composition
        takes several, in its children's order. ``compat="adapters"`` gives the reference library's numbers where it is
        wrong: for averages, and for stacks inside other blocks. In ``skip_layers`` nothing of the composition acts
        (AdapterDrop).

        Raises:
            CompositionError: A name is not loaded, or the parts do not fit; what was active stays so.
        """
        if composition is not None:
            self.folding.require_none("activate a composition")
        tree = self.lookup.tree(composition)
        chosen, static = self.lookup.heads(tree, head)
        manner = Manner((compat or self.compat) == "adapters", frozenset(skip_layers))
        self.activation.put(tree, chosen, static, manner)
        if not self.training:
            self.activation.warm()

    def activate_rows(self, names: Sequence[str], heads: Mapping[str, str] | None = None) -> None:
        """Keep many adapters ready, so that every row of a batch can name its own.

        A call then takes `adapters=["a", None, "b", ...]`, a name for each row, None for the bare base. Adapters of
        one kind are one product however many are resident. ``heads`` names each adapter's head where that has
        another name; `out.heads[i]` is what row i's head says, and without any head the base model's output is.

        Raises:
            CompositionError: A name is not loaded, an adapter is of a method that cannot be picked by row, or is
                being trained.
        """
        self.folding.require_none("activate adapters")
        self.activation.put_rows(names, self.lookup.heads_of_rows(names, heads or {}))

    def row_numbers(self, names: Sequence[str | None]) -> Tensor:
        """What to call resident adapters with in place of names where the call is compiled, `adapters=numbers`.

        A compiled call is compiled anew for every list of names, but for numbers only once.

        Shapes:
            result: (rows), on the model's device

        Raises:
            CompositionError: A name is not resident, or no adapters are.
        """
        if self.activation.residents is None:
            raise CompositionError(
                "No adapters are resident.", hint="name them first, with `activate_rows`"
            )
        return self.activation.residents.numbers(names, self.backbone.reference_parameter.device)

    def deactivate(self) -> None:
        """Take everything out of effect; what is loaded stays loaded."""
        self.activation.clear()

    def fold(self, name: str) -> None:
        """Merge an adapter into the model's own weights, where it costs nothing; heads can be active then.

        For LoRA, DoRA, VeRA and (IA)3, with nothing active. The weights that change are kept, so that `unfold` gives
        them back bit for bit: their memory twice, for as long as it lasts.
        """
        adapter = self.lookup.adapter(name)
        self.activation.require_idle()
        self.sources.remember_base()
        self.folding.fold(name, adapter)

    def unfold(self) -> None:
        """Give the model its own weights back, bit for bit."""
        self.folding.unfold()

    def prune_fusion(
        self, name: str, keep: int, batches: Iterable[Batch], new_name: str | None = None
    ) -> Pruned:
        """Make a new fusion of the members that a fusion attends to most in these batches; says how much to each."""
        return pruning.prune(self, name, keep, batches, new_name)

    def prune_report(self, name: str, batches: Iterable[Batch], head: Heads = None) -> list[Cost]:
        """What keeping the N, N - 1, ..., 1 most attended members of a fusion costs in these batches."""
        return pruningreport.report(self, name, batches, head)

    def detach(self) -> nn.Module:
        """Give the model back as it was, bit for bit: no hooks, its own head, gradients and modes where they were."""
        self.deactivate()
        self.unfold()
        for module, was_training in self._was_training:
            module.training = was_training
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = self._was_trainable[name]
        return self.model

    def forward(self, *args: Any, **inputs: Any) -> ModelOutput:  # noqa: ANN401 - the model's own
        """Run the model with what is active; with ``labels`` the output has a loss."""
        return call(self.model, self.backbone, self.activation, args, inputs)

    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        adapters: Sequence[str | None] | Tensor | None = None,
        **options: Any,  # noqa: ANN401 - those of the model's method
    ) -> Any:  # noqa: ANN401 - tokens, or what the options ask for
        """Generate with what is active, as the model's own `generate` does, with all of its options.

        ``adapters`` are the rows' names where adapters are resident. The last tokens that ReFT changes are those of
        the prompt; without a cache, where each step is a whole pass, they are the last ones at each step.

        Raises:
            CompositionError: The model does not generate, or what is active does not go with it: heads, copies of a
                batch (`parallel`), gates with a cache.
        """
        if inputs is not None:
            options = {"inputs": inputs, **options}
        return generate(self.model, self.activation, self.adapters, adapters, options)

    def exportable(self, *names: str) -> Exportable:
        """What is active now as a module that `torch.export` takes, with inputs of these names in this order.

            module = adapted.exportable("input_ids", "attention_mask")
            shape = {0: Dim("batch"), 1: Dim("length")}
            program = torch.export.export(module, (ids, mask), dynamic_shapes=((shape, shape),))

        Its output has the tensors of the model's output by name. Export it before something else is activated.

        Raises:
            CompositionError: It is being trained, or no inputs are named.
        """
        return exportable(self, names)

    def pipeline(self, processor: Any, **options: Any) -> Any:  # noqa: ANN401 - transformers' own
        """What is active as a `transformers.pipeline`, which one is told by the active head.

            classify = adapted.pipeline(tokenizer)
            classify(["a warm, funny film"])

        ``processor`` is the tokenizer, or of images the image processor; options are those of the pipeline.

        Raises:
            CompositionError: No head is active, or several, or one of a kind that no pipeline is for.
        """
        return pipeline(self, processor, options)

    def attention(self) -> list[FusionWeights]:
        """What the active fusions attended to in the last batch, layer by layer."""
        return list(self.activation.attention())

    # ------------------------------------------------------------ training

    def trainable(
        self, *names: str, heads: Sequence[str] | None = None, base_head: bool = False
    ) -> None:
        """Freeze everything but what is named.

        A name or expression makes its adapters trainable; a fusion, or an expression with one, the fusion's
        projections and not its members. Without ``heads``, the heads of the same names are trained with them.
        ``base_head`` adds the model's own head.

        Raises:
            CompositionError: A name is not loaded.
        """
        chosen = training.chosen(self.lookup, names, heads)
        self.requires_grad_(requires_grad=False)
        for module in chosen:
            module.requires_grad_(requires_grad=True)
        for fusion in self.fusions.values():
            fusion.freeze_what_cancels()
        if base_head and self.backbone.has_static_head:
            training.make_base_head_trainable(self.model, self.backbone, self.lookup, names)
        self._refresh()

    def train(self, mode: bool = True) -> "Adapted":  # noqa: FBT001, FBT002 - torch's own
        """Get ready to train, or with False to evaluate."""
        super().train(mode)
        self._refresh()
        return self

    def regularization(self) -> Tensor:
        """0.01 times the squared distance of every trained value map of a fusion from the identity."""
        return training.regularization(self.fusions.values(), self.backbone)

    def state_dict(self, *_args: Any, **_options: Any) -> dict[str, Tensor]:  # type: ignore[override]  # noqa: ANN401
        """Copies of what is trainable now, and of the temperatures of fusions."""
        own = training.state(self, self.shelf)
        return {name: tensor.detach().clone() for name, tensor in own.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], *_args: Any, **_options: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Copy a state back; it must be of what is trainable now.

        Raises:
            CompositionError: Names or shapes differ.
        """
        training.load_state(training.state(self, self.shelf), state)
        self._refresh()

    # ------------------------------------------------------------ private

    def _refresh(self) -> None:
        """Form anew what is kept of fusions: not every change of a parameter can be seen."""
        self.activation.forget()
        if not self.training:
            self.activation.warm()

    def _require_free(self, kind: str, name: str, taken: Mapping[str, object]) -> None:
        if name in taken:
            raise CompositionError(
                f"The {kind} {name!r} exists already.", hint="delete it, or take another name"
            )


def attach(
    model: nn.Module,
    hub: Any = None,  # noqa: ANN401 - any object with `pull`
    *,
    compat: Compat = None,
) -> Adapted:
    """Attach to a transformers model; nothing changes until something is active.

    ``compat`` is what `activate` uses without its own; it is ``$ADAPTERHUB_COMPAT`` where that is set.

    Raises:
        UnknownSite: The table of sites has no row for the architecture.
        CompositionError: There is no such compatibility.
    """
    return Adapted(model, hub, compat=compat)


def usual_compat(given: str | None) -> Compat:
    """Whose numbers to give: what is given, else what the environment says, else our own.

    Raises:
        CompositionError: It is neither `adapters` nor nothing.
    """
    asked = given or os.environ.get("ADAPTERHUB_COMPAT") or None
    if asked not in (None, "adapters"):
        raise CompositionError(
            f"There is no compatibility with {asked!r}.",
            hint="allowed in `compat` and in ADAPTERHUB_COMPAT: adapters, or nothing",
        )
    return "adapters" if asked else None
