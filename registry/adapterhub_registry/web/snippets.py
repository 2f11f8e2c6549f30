"""The lines to copy: a tool each, for the newest version, for this number, and for these very bytes."""

import shlex
from collections.abc import Callable

import msgspec

from adapterhub_client import names, wire
from adapterhub_registry.web.shown.adapter import Subject

TOOLS = {
    "client": "Command line",
    "python": "Python",
    "peft": "peft",
    "adapters": "adapters",
    "hf": "hf",
    "curl": "curl",
}
PINS = {"number": "This version", "digest": "Exact digest", "newest": "Newest"}
_COMMIT_DIGITS = 40
"""of a manifest's digest: what Hugging Face clients call its commit"""


class Snippet(msgspec.Struct, frozen=True):
    """A text to copy; `tool` and `pin` say on which tab it lies."""

    tool: str
    pin: str
    text: str


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the snippets are about."""

    hub: str
    """the address of this registry, without a slash at its end"""
    version: wire.Version
    manifest: wire.Manifest
    base: str | None
    """what has to be said of the base for the reference to mean one thing"""
    config: str | None
    """what has to be said of the config"""
    is_default: bool
    """whether this is the variant that Hugging Face clients are given where they ask for none"""

    @property
    def references(self) -> dict[str, str]:
        """The reference for each kind of pin."""
        name = self.version.reference
        return {
            "number": f"{name}:{self.version.number}",
            "digest": f"{name}:{self.version.digest}",
            "newest": name,
        }

    @property
    def repo_id(self) -> str:
        """The adapter as Hugging Face clients name it."""
        return names.parse(self.version.reference).repo_id

    def revision(self, pin: str) -> str | None:
        """What such clients are told to have this version; None is the newest of the default variant."""
        if self.is_default and pin == "newest":
            return None
        if self.is_default and pin == "number":
            return f"v{self.version.number}"
        return self.version.digest.removeprefix("sha256:")[:_COMMIT_DIGITS]


def about(hub: str, subject: Subject) -> About:
    """What the snippets of a page are about; a base or a config is named only where there are several."""
    variants, own = subject.adapter.variants, subject.variant
    named = [each for each in variants if each.base.name == own.base.name]
    one_name = len({each.base.fingerprint for each in named}) == 1
    base = own.base.name if one_name else own.base.fingerprint or own.base.name
    same_base = [each for each in named if each.base.fingerprint == own.base.fingerprint]
    offered = [each for each in subject.adapter.versions if each.status == "active"]
    default = min((int(each.variant) for each in offered or subject.adapter.versions), default=0)
    return About(
        hub=hub,
        version=subject.version,
        manifest=subject.manifest,
        base=base if len(same_base) < len(variants) else None,
        config=own.config_id if len(same_base) > 1 else None,
        is_default=int(own.id) == default,
    )


def snippets(about: About) -> list[Snippet]:
    """Every snippet of a version, for the tools that can read its format."""
    return [
        Snippet(tool, pin, write(about, reference, pin))
        for tool, write in _tools(about.manifest.method.format).items()
        for pin, reference in about.references.items()
    ]


def _tools(format_: wire.Format) -> dict[str, Callable[[About, str, str], str]]:
    tools = {"client": _client, "python": _python, "hf": _hf, "curl": _curl}
    if format_ == "peft":
        tools["peft"] = _peft
    elif format_ == "adapters":
        tools["adapters"] = _adapters
    return {name: tools[name] for name in TOOLS if name in tools}


def _client(about: About, reference: str, pin: str) -> str:
    return shlex.join(["adapterhub-client", "pull", reference, *_choice(about, pin)])


def _choice(about: About, pin: str) -> list[str]:
    """What tells variants apart; a digest needs nothing beside it."""
    if pin == "digest":
        return []
    said = {"--base": about.base, "--config": about.config}
    return [part for option, value in said.items() if value for part in (option, value)]


def _python(about: About, reference: str, pin: str) -> str:
    config = about.config if pin != "digest" else None
    option = f", config={_quoted(config)}" if config else ""
    base = " ".join(about.version.base.name.split())
    return "\n".join(
        [
            "from adapterhub_client import Hub, compose",
            "",
            f"hub = Hub({_quoted(about.hub)})",
            f"adapted = compose.attach(model, hub)  # a transformers model: {base}",
            f"name = adapted.load(hub.pull({_quoted(reference)}, base=model{option}))",
            "adapted.activate(name)",
        ]
    )


def _peft(about: About, reference: str, pin: str) -> str:
    del reference
    revision = about.revision(pin)
    option = f", revision={_quoted(revision)}" if revision else ""
    return "\n".join(
        [
            *_endpoint(about),
            "from peft import PeftModel",
            "",
            f"model = PeftModel.from_pretrained(model, {_quoted(about.repo_id)}{option})",
        ]
    )


def _adapters(about: About, reference: str, pin: str) -> str:
    del reference
    revision = about.revision(pin)
    option = f", version={_quoted(revision)}" if revision else ""
    return "\n".join(
        [
            *_endpoint(about),
            "import adapters",
            "",
            "adapters.init(model)",
            f"model.load_adapter({_quoted(about.repo_id)}{option}, set_active=True)",
        ]
    )


def _endpoint(about: About) -> list[str]:
    """Where clients of Hugging Face look; they read it when they are imported."""
    return ["import os", f'os.environ["HF_ENDPOINT"] = {_quoted(about.hub)}']


def _hf(about: About, reference: str, pin: str) -> str:
    del reference
    revision = about.revision(pin)
    option = ["--revision", revision] if revision else []
    command = shlex.join(["hf", "download", about.repo_id, *option])
    return f"HF_ENDPOINT={shlex.quote(about.hub)} {command}"


def _curl(about: About, reference: str, pin: str) -> str:
    if pin == "digest":
        return "\n".join(_download(about, file) for file in about.manifest.files)
    data = [f"ref={reference}", *_query(about)]
    options = [part for each in data for part in ("--data-urlencode", each)]
    return shlex.join(["curl", "-fsSLG", f"{about.hub}/api/v1/resolve", *options])


def _download(about: About, file: wire.File) -> str:
    address = f"{about.hub}/api/v1/blobs/{file.sha256}"
    return shlex.join(["curl", "-fsSL", "--create-dirs", "-o", file.path, address])


def _query(about: About) -> list[str]:
    options = _choice(about, "newest")
    return [
        f"{name.removeprefix('--')}={value}"
        for name, value in zip(options[::2], options[1::2], strict=True)
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
