"""The lines to copy: three clients, each for the newest version, for this number, and for these very bytes."""

import shlex

import msgspec

from adapterhub_client import wire
from adapterhub_registry.web.adapter import View


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
    base: str | None
    """what has to be said of the base for the reference to mean one thing"""
    config: str | None
    """what has to be said of the config"""

    @property
    def references(self) -> dict[str, str]:
        """The reference for each kind of pin."""
        name = self.version.reference
        return {
            "newest": name,
            "number": f"{name}:{self.version.number}",
            "digest": f"{name}:{self.version.digest}",
        }


def subject(hub: str, view: View) -> Subject:
    """What the snippets of a page are about; a base or a config is named only where there are several."""
    variants, own = view.adapter.variants, view.variant
    named = [each for each in variants if each.base.name == own.base.name]
    one_name = len({each.base.fingerprint for each in named}) == 1
    base = own.base.name if one_name else own.base.fingerprint or own.base.name
    same_base = [each for each in named if each.base.fingerprint == own.base.fingerprint]
    return Subject(
        hub=hub,
        version=view.version,
        manifest=view.manifest,
        base=base if len(same_base) < len(variants) else None,
        config=own.config_id if len(same_base) > 1 else None,
    )


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
    said = {"--base": subject.base, "--config": subject.config}
    return [part for option, value in said.items() if value for part in (option, value)]


def _python(subject: Subject, reference: str, pin: str) -> str:
    config = subject.config if pin != "digest" else None
    option = f", config={_quoted(config)}" if config else ""
    base = " ".join(subject.version.base.name.split())
    return "\n".join(
        [
            "from adapterhub_client import Hub, compose",
            "",
            f"hub = Hub({_quoted(subject.hub)})",
            f"adapted = compose.attach(model, hub)  # a transformers model: {base}",
            f"name = adapted.load(hub.pull({_quoted(reference)}, base=model{option}))",
            "adapted.activate(name)",
        ]
    )


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
