"""What can go wrong for a user of the client, and with which exit code.

HubError                        1
├── UsageError                  2   the call itself is wrong
│   ├── MalformedReference          which part, and what is allowed
│   └── NotAnAdapter                the folder holds nothing we know; what was looked for
├── NotFound                   66   nothing has this name
│   ├── AdapterNotFound             with the nearest names
│   ├── VersionNotFound
│   └── BaseModelNotFound           no model at this place
├── Ambiguous                  67   several versions answer; they are listed
├── Corrupt                    65   bytes differ from their digest; nothing was kept
├── WrongBase                  68   the adapter was trained on another base; the differing tensors
├── Unreachable                69   no server answers, or it broke
├── Conflict                   73   the state of the hub forbids it
├── NotAllowed                 77   who you are is unknown, or may not do this
│   ├── WrongToken
│   └── MissingScope
├── Refused                    78   the hub refuses the content; every reason is listed
└── CompositionError            2   an expression or its adapters do not fit
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapterhub_client.wire import Problem


class HubError(Exception):
    """Anything a user of the hub can meet; knows its exit code, and a hint at the cure."""

    exit_code = 1
    hint: str | None = None
    problem: "Problem | None" = None
    """what the hub answered, where it was the hub that refused"""
    request_id: str | None = None
    """under which the hub's log has that request"""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(HubError):
    """The call itself is wrong."""

    exit_code = 2


class MalformedReference(UsageError):
    """A reference does not follow the grammar."""

    def __init__(self, text: str, fault: str, allowed: str) -> None:
        super().__init__(f"{text!r} is not a reference: {fault}.", hint=f"allowed: {allowed}")
        self.text, self.fault, self.allowed = text, fault, allowed


class NotAnAdapter(UsageError):
    """A folder holds nothing that can be published or loaded."""

    def __init__(self, folder: object, looked_for: Sequence[str]) -> None:
        super().__init__(
            f"'{folder}' is no adapter folder.", hint="looked for: " + ", ".join(looked_for)
        )
        self.folder, self.looked_for = folder, tuple(looked_for)


class CompositionError(UsageError):
    """A composition expression, or the adapters it names, do not fit together."""


class NotFound(HubError):
    """Nothing has this name."""

    exit_code = 66


class AdapterNotFound(NotFound):
    """No adapter has this name (or it is private and not yours)."""


class VersionNotFound(NotFound):
    """The adapter exists, this version or variant of it does not."""


class BaseModelNotFound(NotFound):
    """There is no base model at this place."""


class Ambiguous(HubError):
    """Several versions answer to the reference; the message lists them."""

    exit_code = 67


class Corrupt(HubError):
    """Bytes differ from the digest that names them; nothing was kept."""

    exit_code = 65


class WrongBase(HubError):
    """The adapter was trained on another base model."""

    exit_code = 68

    def __init__(
        self, message: str, *, differing: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(
            message, hint=hint or "`--allow-base-mismatch` is the only way around this check"
        )
        self.differing = tuple(differing)


class Unreachable(HubError):
    """No server answers at the address, or it broke while answering."""

    exit_code = 69


class Conflict(HubError):
    """The state of the hub forbids the change."""

    exit_code = 73


class NotAllowed(HubError):
    """Who you are is unknown, or may not do this."""

    exit_code = 77


class WrongToken(NotAllowed):
    """The token is unknown, expired or revoked."""


class MissingScope(NotAllowed):
    """The token is good, but does not reach this far."""


class Refused(HubError):
    """The hub refuses the content of a push; every reason is listed."""

    exit_code = 78
