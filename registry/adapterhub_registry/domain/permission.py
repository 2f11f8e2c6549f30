"""Who is looking, and what that allows."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from adapterhub_client.wire import Role, Scope

ROLES: tuple[Role, ...] = ("reader", "writer", "admin")
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever sent the request; without an account it is the public."""

    account_id: int | None = None
    name: str | None = None
    is_admin: bool = False
    scopes: tuple[Scope, ...] = ()
    organizations: tuple[str, ...] | None = None
    """the names of those that the token is for; None is all that the account is in"""
    token_id: int | None = None
    token_expires_at: datetime | None = None
    use_is_noted: bool = True
    """whether the token's last use is known well enough"""

    @property
    def is_anonymous(self) -> bool:
        """Whether no token came with the request."""
        return self.account_id is None

    @property
    def rules_everything(self) -> bool:
        """Whether this is an administrator of the whole registry, and the token says so too."""
        return self.is_admin and reaches(self.scopes, "admin") and self.organizations is None

    def is_for(self, organization: str) -> bool:
        """Whether the token may be used in this organization."""
        return self.organizations is None or organization in self.organizations


ANONYMOUS = Viewer()


def reaches(scopes: Sequence[Scope], wanted: Scope) -> bool:
    """Whether one of the scopes is the wanted one or above it."""
    return any(SCOPES.index(scope) >= SCOPES.index(wanted) for scope in scopes)


def covers(role: str | None, wanted: Role) -> bool:
    """Whether a role is the wanted one or above it."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(wanted)
