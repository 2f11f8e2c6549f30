"""Passwords: kept as Argon2id, and which ones are taken.

Argon2id with 19 MiB and two passes is the least that OWASP's password storage cheat sheet advises; sixteen threads
that sign somebody in at once then need 300 MiB.
"""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from adapterhub_registry.errors import PasswordRefused

SHORTEST, LONGEST = 10, 1024
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _HASHER.hash("nobody has this password")
_KINDS = 4
"""different characters a password has to have at least"""


def hashed(password: str, name: str) -> str:
    """The hash to keep for a new password of the account `name`; PasswordRefused, with the reason."""
    fault = _fault(password, name)
    if fault is not None:
        raise PasswordRefused(fault)
    return _HASHER.hash(password)


def matches(password: str, kept: str | None) -> bool:
    """Whether a password is the one that is kept; takes as long where none is."""
    try:
        return _HASHER.verify(kept or _NOBODY, password[:LONGEST]) and kept is not None
    except (VerificationError, InvalidHashError):
        return False


def _fault(password: str, name: str) -> str | None:
    if not SHORTEST <= len(password) <= LONGEST:
        return f"A password has {SHORTEST} to {LONGEST} characters, not {len(password)}."
    if len(set(password)) < _KINDS:
        return f"A password has at least {_KINDS} different characters."
    if password.casefold().strip() in {name, name * 2, f"{name}{name}{name}"}:
        return "A password is not the name of the account."
    return None
