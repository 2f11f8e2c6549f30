"""What can go wrong in composing.

CompositionError (adapterhub_client.errors)
├── UnknownSite              no row of the table knows the architecture
└── IncompatibleAdapter      a file's tensors are not those its config announces
    ├── WrongShape           both shapes
    └── NotFinite            a value is NaN or infinite
"""

from collections.abc import Sequence

from torch import Tensor, dtype

from adapterhub_client.errors import CompositionError


class UnknownSite(CompositionError):
    """No row of the table says where adapters attach in this architecture."""


class IncompatibleAdapter(CompositionError):
    """The tensors in a file are not those that its config and this model ask for."""

    def __init__(
        self, source: object, *, missing: Sequence[str] = (), unexpected: Sequence[str] = ()
    ) -> None:
        parts = [
            f"{len(names)} {word}: " + ", ".join(names)
            for word, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        super().__init__(f"The tensors in '{source}' do not fit; " + "; ".join(parts) + ".")
        self.missing, self.unexpected = tuple(missing), tuple(unexpected)


class WrongShape(IncompatibleAdapter):
    """A tensor in a file has another shape than this model asks for."""

    def __init__(
        self, source: object, name: str, found: Sequence[int], expected: Sequence[int]
    ) -> None:
        CompositionError.__init__(
            self,
            f"{name!r} in '{source}' has the shape {tuple(found)}, this model asks for "
            f"{tuple(expected)}.",
        )
        self.missing = self.unexpected = ()
        self.found, self.expected = tuple(found), tuple(expected)


class NotFinite(IncompatibleAdapter):
    """A tensor in a file has values that are no numbers, or too large for the model's type."""

    def __init__(self, source: object, name: str, found: Tensor, wanted: dtype) -> None:
        count = int(found.numel() - found.isfinite().sum())
        if count:
            fault = f"has {count} values of {found.numel()} that are NaN or infinite"
        else:
            fault = f"has values too large for {wanted}, the type of this model"
        CompositionError.__init__(
            self,
            f"{name!r} in '{source}' {fault}.",
            hint="train it again: its training diverged" if count else "load the model in float32",
        )
        self.missing = self.unexpected = ()
        self.name = name
