"""The grammar of references: parse one, or say which part is wrong.

A reference is what a person types: ``nli/multinli@ukp``, ``nli/multinli@ukp:3``, ``...:stable`` or
``...:sha256:<hex>``. Its two-way twin is a Hugging Face repository id, ``ukp/nli.multinli``: split at the first
dot. A repository id without a dot, as most existing ones are, is the task ``misc``.
"""

import re

import msgspec

from adapterhub_client.errors import MalformedReference

TASK = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
NAME = re.compile(r"[a-z0-9]+(?:[.\-_][a-z0-9]+)*")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
ALIAS = re.compile(r"[a-z](?:[a-z0-9]|[._-](?=[a-z0-9])){0,63}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REPO_NAME_LIMIT = 96
RESERVED_ORGS = frozenset(
    [
        "adapters",
        "api",
        "model",
        "models",
        "dataset",
        "datasets",
        "space",
        "spaces",
        "kernel",
        "kernels",
        "bucket",
        "buckets",
        "collections",
        "settings",
        "login",
        "logout",
        "docs",
        "static",
        "metrics",
        "health",
        "healthz",
        "admin",
        "resolve",
        "dist",
        "tasks",
        "bases",
        "orgs",
        "search",
        "about",
        "leaderboards",
        "methods",
    ]
)
UNTASKED = "misc"

_ALLOWED_TASK = "lower-case letters and digits, words joined by a single `-` or `_`"
_ALLOWED_NAME = "lower-case letters and digits, words joined by a single `.`, `-` or `_`"


class Reference(msgspec.Struct, frozen=True, order=True):
    """What names an adapter, ``task/name@org``, and optionally one version of it."""

    task: str
    name: str
    org: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.adapter}:{self.version}" if self.version else self.adapter

    @property
    def adapter(self) -> str:
        """The reference without its version: ``task/name@org``."""
        return f"{self.task}/{self.name}@{self.org}"

    @property
    def repo_id(self) -> str:
        """The same adapter as a Hugging Face repository id: ``org/task.name``."""
        return f"{self.org}/{self.task}.{self.name}"

    def at(self, version: str | int | None) -> "Reference":
        """The same adapter, pinned to another version."""
        return msgspec.structs.replace(self, version=None if version is None else str(version))


def parse(text: str) -> Reference:
    """Read a reference in either spelling.

    Raises:
        MalformedReference: Says which part is wrong and what is allowed there.
    """
    if "@" not in text:
        return _parse_repo_id(text)
    head, _, tail = text.partition("@")
    task, slash, name = head.partition("/")
    org, colon, version = tail.partition(":")
    if not slash:
        raise MalformedReference(
            text, "it has no `/` between task and name", "TASK/NAME@ORG[:VERSION]"
        )
    return checked(task, name, org, version if colon else None, text=text)


def checked(
    task: str, name: str, org: str, version: str | None = None, *, text: str | None = None
) -> Reference:
    """Build a reference from its parts, each checked against the grammar.

    Raises:
        MalformedReference: Says which part is wrong and what is allowed there.
    """
    text = f"{task}/{name}@{org}" if text is None else text
    _require(TASK, "task", task, _ALLOWED_TASK, text)
    _require(NAME, "name", name, _ALLOWED_NAME, text)
    _require(NAME, "org", org, _ALLOWED_NAME, text)
    if len(task) + 1 + len(name) > REPO_NAME_LIMIT:
        raise MalformedReference(
            text,
            f"task and name have {len(task) + 1 + len(name)} characters together",
            f"at most {REPO_NAME_LIMIT}",
        )
    if len(org) > REPO_NAME_LIMIT:
        raise MalformedReference(
            text, f"the org has {len(org)} characters", f"at most {REPO_NAME_LIMIT}"
        )
    if f".{name}".endswith(".git"):  # as a repository id it would be `org/task.git`
        raise MalformedReference(text, "the name ends in `.git`", "any other ending")
    if org in RESERVED_ORGS:
        raise MalformedReference(text, f"the org {org!r} is reserved", "any other org")
    if version is not None and not any(form.fullmatch(version) for form in (NUMBER, ALIAS, DIGEST)):
        raise MalformedReference(
            text,
            f"the version {version!r} is none",
            "a number such as 3, an alias such as stable, or sha256: and 64 hex digits",
        )
    return Reference(task, name, org, version)


def is_reference(text: str) -> bool:
    """Whether the text is a well-formed reference in either spelling."""
    try:
        parse(text)
    except MalformedReference:
        return False
    return True


def _parse_repo_id(text: str) -> Reference:
    repo, _, version = text.partition(":")
    org, slash, rest = repo.partition("/")
    if not slash:
        raise MalformedReference(text, "it has no `@` before the org", "TASK/NAME@ORG[:VERSION]")
    task, dot, name = rest.partition(".")
    if not dot:
        task, name = UNTASKED, rest
    return checked(task, name, org, version or None, text=text)


def _require(form: re.Pattern[str], part: str, value: str, allowed: str, text: str) -> None:
    if not value:
        raise MalformedReference(text, f"the {part} is empty", allowed)
    if not form.fullmatch(value):
        raise MalformedReference(text, f"the {part} {value!r} does not fit", allowed)
