"""The lines to copy: three clients, each for the newest version, for this number, and for these very bytes."""

import shlex

import msgspec

from adapterhub_client import wire


class Snippet(msgspec.Struct, frozen=True):
    """A text to copy; `tool` and `pin` say on which tab it lies."""

    tool: str
    pin: str
    text: str


TOOLS = {"client": "Command line", "python": "Python", "curl": "curl"}
PINS = {"newest": "Newest", "number": "This version", "digest": "Exact digest"}


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What the snippets are about."""

    hub: str
    """the address of this registry, without a slash at its end"""
    version: wire.Version
    manifest: wire.Manifest
    many_bases: bool
    """whether a base has to be named for the reference to mean one thing"""
    many_configs: bool

    @property
    def references(self) -> dict[str, str]:
        """The reference for each kind of pin."""
        name = self.version.reference
        return {
            "newest": name,
            "number": f"{name}:{self.version.number}",
            "digest": f"{name}:{self.version.digest}",
        }


def snippets(subject: Subject) -> list[Snippet]:
    """Every snippet of a version."""
    made = {"client": _client, "python": _python, "curl": _curl}
    return [
        Snippet(tool, pin, made[tool](subject, reference, pin))
        for tool in TOOLS
        for pin, reference in subject.references.items()
    ]


def _client(subject: Subject, reference: str, pin: str) -> str:
    return shlex.join(["adapterhub-client", "pull", reference, *_choice(subject, pin)])


def _choice(subject: Subject, pin: str) -> list[str]:
    """What tells variants apart; a digest needs nothing beside it."""
    if pin == "digest":
        return []
    chosen = []
    if subject.many_bases:
        base = subject.version.base
        chosen += ["--base", base.fingerprint or base.name]
    if subject.many_configs:
        chosen += ["--config", subject.version.config_id]
    return chosen


def _python(subject: Subject, reference: str, pin: str) -> str:
    config = subject.many_configs and pin != "digest"
    option = f", config={_quoted(subject.version.config_id)}" if config else ""
    lines = [
        "from adapterhub_client import Hub, compose",
        "",
        f"hub = Hub({_quoted(subject.hub)})",
        "adapted = compose.attach(model)  # " + _comment(subject.version.base.name),
    ]
    composition = subject.manifest.composition
    if composition is None:
        name = subject.manifest.reference.name
        lines += [
            f"folder = hub.pull({_quoted(reference)}, base=model{option})",
            f"name = adapted.load(folder, name={_quoted(name)})",
            "adapted.activate(name)",
        ]
    else:
        for member in composition.members:
            pinned = f"{member.reference.partition(':')[0]}:{member.digest}"
            lines.append(
                f"adapted.load(hub.pull({_quoted(pinned)}, base=model), name={_quoted(member.name)})"
            )
        lines += [
            f"adapted.load_fusion(hub.pull({_quoted(reference)}, base=model{option}))",
            f"adapted.activate({_quoted(composition.expression)})",
        ]
    return "\n".join(lines)


def _curl(subject: Subject, reference: str, pin: str) -> str:
    if pin == "digest":
        return "\n".join(_download(subject, file) for file in subject.manifest.files)
    data = [f"ref={reference}", *_query(subject)]
    options = [part for each in data for part in ("--data-urlencode", each)]
    return shlex.join(["curl", "-fsSLG", f"{subject.hub}/api/v1/resolve", *options])


def _download(subject: Subject, file: wire.File) -> str:
    address = f"{subject.hub}/api/v1/blobs/{file.sha256}"
    return shlex.join(["curl", "-fsSL", "--create-dirs", "-o", file.path, address])


def _query(subject: Subject) -> list[str]:
    options = _choice(subject, "newest")
    return [
        f"{name.removeprefix('--')}={value}"
        for name, value in zip(options[::2], options[1::2], strict=True)
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _comment(text: str) -> str:
    return " ".join(text.split())
