"""Loading by folder or reference, and saving with what a later load has to know: the base, the members, their pins."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from torch import nn

from adapterhub_client import fingerprint, names
from adapterhub_client.compose import expression
from adapterhub_client.compose.expression import Expression, Fuse, Leaf
from adapterhub_client.compose.files import archive, checkpoint, compiledfusion, peft, provenance
from adapterhub_client.compose.files import folder as folders
from adapterhub_client.compose.files.blank import Blanks
from adapterhub_client.compose.files.compiledfusion import CompiledFusion
from adapterhub_client.compose.files.folder import Format
from adapterhub_client.compose.files.provenance import BaseCheck
from adapterhub_client.compose.heads.static import StaticHead
from adapterhub_client.compose.shelf import LoadedAdapter, LoadedFusion, Shelf
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.weights.adapterdrop import without_layers
from adapterhub_client.errors import CompositionError, NotAnAdapter
from adapterhub_client.formats.folder import COMPOSITION_FILE, CompositionFile, MemberPin
from adapterhub_client.wire import BASE_FINGERPRINT_FILE

STATIC_HEAD = "default"
AdapterFormat = Format | Literal["peft"]
Form = Literal["trainable", "compiled", "slim", "both"]


class FusionFiles(NamedTuple):
    """How a fusion is written."""

    head: str | None = None
    format: Format = "safetensors"
    form: Form = "trainable"
    """slim is compiled, but for what its members have too"""


class Sources:
    """What goes in and out of a shelf: folders, references and their pins."""

    def __init__(self, shelf: Shelf, backbone: Backbone, model: nn.Module, hub: Any) -> None:  # noqa: ANN401
        self._shelf, self._backbone, self._model = shelf, backbone, model
        self._hub = hub
        self._base = BaseCheck(model, backbone.name)
        self._blanks = Blanks(backbone)
        self._loaded: dict[str, LoadedAdapter | LoadedFusion] = {}

    def remember_base(self) -> None:
        """Take the base's fingerprint now, since its weights are about to hold more."""
        self._base.fingerprint()

    def load(
        self,
        source: Any,  # noqa: ANN401
        name: str | None,
        *,
        any_base: bool,
        leave_out: frozenset[int] = frozenset(),
    ) -> str:
        """Load an adapter or a composition from a folder or a reference, whole or not at all; returns its name.

        Raises:
            CompositionError: A composition cannot be left out of layers.
        """
        if archive.is_archive(Path(source)):
            with archive.unpacked(Path(source)) as unpacked:
                return self.load(unpacked, name, any_base=any_base, leave_out=leave_out)
        folder, reference = self._folder(source, any_base=any_base)
        if peft.is_peft(folder):
            with peft.converted(folder, self._backbone) as ours:
                own = self._load_adapter(
                    ours, name, reference, any_base=any_base, leave_out=leave_out
                )
            if reference is not None:
                self._loaded[str(source)] = self._shelf.adapters[own]
            return own
        is_composition = _holds_fusion(folder)
        if is_composition and leave_out:
            raise CompositionError(
                f"'{folder}' holds a composition, which is not left out of layers when it is loaded.",
                hint="skip them when it is active: activate(..., skip_layers=[...])",
            )
        if is_composition:
            own = self.load_fusion(folder, name, any_base=any_base)
        else:
            own = self._load_adapter(
                folder, name, reference, any_base=any_base, leave_out=leave_out
            )
        if reference is not None:
            loaded = self._shelf.fusions if is_composition else self._shelf.adapters
            self._loaded[str(source)] = loaded[own]
        return own

    def load_fusion(
        self, folder: Path, name: str | None, *, any_base: bool, form: Form | None = None
    ) -> str:
        """Load a fusion, its head, and its members where they are pinned, whole or not at all; returns its name.

        Without ``form`` it is the trainable one where the folder has that. The compiled one needs no members.

        Raises:
            NotAnAdapter: The folder has no fusion of that form.
        """
        has_trainable = folders.holds(folder, folders.FUSION)
        is_compiled = form in ("compiled", "slim") or (form is None and not has_trainable)
        if is_compiled and form is None and not folders.holds(folder, folders.COMPILED):
            raise NotAnAdapter(folder, [folders.FUSION.config, folders.COMPILED.config])
        if not any_base:
            self._base.require(folder)
        with self._shelf.whole():
            return self._load_fusion(folder, name, any_base=any_base, is_compiled=is_compiled)

    def load_head(self, folder: Path, name: str | None, *, any_base: bool) -> str:
        """Load a head; it is the `default` one where neither ``name`` nor the folder has another name."""
        if not any_base:
            self._base.require(folder)
        return self._load_head(folder, name, STATIC_HEAD, any_base=any_base)

    def save(self, name: str, folder: Path, head: str | None, form: AdapterFormat) -> None:
        """Write an adapter, its head and the base's fingerprint.

        Raises:
            CompositionError: It cannot be written in this format.
        """
        if name not in self._shelf.adapters:
            raise self._shelf.unknown(name)
        adapter = self._shelf.adapters[name]
        with folders.replacing(folder) as place:
            if form == "peft":
                peft.write(place, name, adapter, self._backbone, self._model)
            else:
                checkpoint.write_adapter(place, name, adapter, self._backbone, form)
            self._write_head(adapter, name, head, place, "bin" if form == "bin" else "safetensors")
            fingerprint.write(self._base.fingerprint(), place / BASE_FINGERPRINT_FILE)

    def save_fusion(
        self, name: str, folder: Path, files: FusionFiles, active: Expression | None
    ) -> None:
        """Write a fusion in one form or both, its head, the base's fingerprint, and which versions its members are.

        Raises:
            CompositionError: It cannot be written in this form.
        """
        if name not in self._shelf.fusions:
            raise self._shelf.unknown(name)
        fusion = self._shelf.fusions[name]
        compiled = self._compiled(name, fusion, files)
        described = msgspec.to_builtins(self._describe(name, fusion, active))
        text = json.dumps(described, indent=2, sort_keys=True)
        with folders.replacing(folder) as place:
            if files.form in ("trainable", "both"):
                checkpoint.write_fusion(place, name, fusion, self._backbone, files.format)
            if compiled is not None:
                is_whole = files.form != "slim"
                compiledfusion.write(place, name, compiled, self._backbone, with_members=is_whole)
            (place / COMPOSITION_FILE).write_text(text, encoding="utf-8")
            self._write_head(fusion, name, files.head, place, files.format)
            fingerprint.write(self._base.fingerprint(), place / BASE_FINGERPRINT_FILE)

    def save_head(self, name: str, folder: Path, form: Format) -> None:
        """Write a head."""
        if name not in self._shelf.heads:
            raise self._shelf.unknown(name)
        with folders.replacing(folder) as place:
            checkpoint.write_head(place, name, self._shelf.heads[name], self._backbone, form)

    def loaded_name(self, text: str) -> str:
        """The loaded adapter a leaf of an expression means; a reference is pulled.

        Raises:
            CompositionError: It is neither, or the reference is that of a composition.
        """
        if text in self._shelf.adapters:
            return text
        name, brought = self.brought(text)
        if isinstance(brought, LoadedFusion):
            raise CompositionError(
                f"{text!r} is a composition, which cannot be a part of another one.",
                hint=f"activate it alone, or write it out: {brought.tree(name)}",
            )
        return name

    def brought(self, reference: str) -> tuple[str, LoadedAdapter | LoadedFusion]:
        """What a reference brought, and the name it has here; it is pulled where it is not here.

        Raises:
            CompositionError: It is no reference.
        """
        if reference not in self._loaded or self._name_of(self._loaded[reference]) is None:
            if not names.is_reference(reference):
                raise self._shelf.unknown(reference)
            return self.load(reference, None, any_base=False), self._loaded[reference]
        brought = self._loaded[reference]
        return str(self._name_of(brought)), brought

    def _load_adapter(
        self,
        folder: Path,
        name: str | None,
        reference: str | None,
        *,
        any_base: bool,
        leave_out: frozenset[int] = frozenset(),
    ) -> str:
        if not any_base:
            self._base.require(folder)
        found, adapter, original = checkpoint.read_adapter(folder, self._blanks, any_base=any_base)
        own = name or self._free_name(found, reference)
        if leave_out:
            # Not what was published any more.
            adapter = without_layers(own, adapter, leave_out, self._backbone)
        else:
            pin, digest = provenance.pin(folder, folders.ADAPTER.safetensors)
            adapter.publish_as(pin, original, digest)
        with self._shelf.whole():
            self._shelf.put("adapter", own, adapter)
            if folders.holds(folder, folders.HEAD):
                self._load_head(folder, own, own, any_base=any_base)
        return own

    def _load_fusion(
        self, folder: Path, name: str | None, *, any_base: bool, is_compiled: bool
    ) -> str:
        described = provenance.composition(folder)
        pins = described.members if described else []
        is_alone = is_compiled and (folder / folders.COMPILED_MEMBERS.safetensors).is_file()
        inside = set(compiledfusion.member_names(folder)) if is_alone else set()
        if described:
            inside -= set(_outside_fusions(expression.parse(described.expression)))
        for member in pins:
            if member.name not in inside:
                self._load_member(member, any_base=any_base)
        read = compiledfusion.read if is_compiled else checkpoint.read_fusion
        found, fusion = read(folder, self._backbone, _Members(self._shelf), any_base=any_base)
        if isinstance(fusion, CompiledFusion):
            fusion.pins = {pin.name: pin for pin in pins if pin.name in fusion.members}
        own = name or found
        if described:
            tree = expression.rename_fusion(expression.parse(described.expression), found, own)
            fusion.expression = str(tree)
        self._shelf.put("fusion", own, fusion)
        if folders.holds(folder, folders.HEAD):
            fusion.head = self._load_head(folder, name, own, any_base=any_base)
        return own

    def _load_head(self, folder: Path, name: str | None, usual: str, *, any_base: bool) -> str:
        """Load a head under ``name``, or the name it has in its file, or the ``usual`` one."""
        found, head = checkpoint.read_head(folder, self._backbone, self._model, any_base=any_base)
        own = name or found or usual
        self._shelf.put("head", own, head)
        return own

    def _name_of(self, module: LoadedAdapter | LoadedFusion) -> str | None:
        named = [*self._shelf.adapters.items(), *self._shelf.fusions.items()]
        return next((name for name, loaded in named if loaded is module), None)

    def _free_name(self, found: str | None, reference: str | None) -> str:
        """The name an adapter has in its file, or that of its reference where the file has none or it is taken."""
        if reference is None:
            return found or "adapter"
        parsed = names.parse(reference)
        own = found or parsed.name
        return (parsed.adapter if own in self._shelf.adapters else own).replace(".", "-")

    def _load_member(self, member: MemberPin, *, any_base: bool) -> None:
        """Load a pinned member under the name its expression uses, unless it is here already."""
        present = self._shelf.adapters.get(member.name)
        if present is not None:
            found = present.pin.digest if present.pin else None
            if member.digest and found != member.digest:
                raise CompositionError(
                    f"The composition pins {member.name!r} to {member.digest}, but "
                    f"{found or 'what is no published version'} is loaded under this name.",
                    hint="delete it, or load it under another name",
                )
            return
        if member.reference is None:
            raise CompositionError(
                f"The member {member.name!r} of the composition was never published.",
                hint=f"load it first, with name={member.name!r}",
            )
        pinned = names.parse(member.reference).at(member.digest)
        self.load(str(pinned), member.name, any_base=any_base)

    def _describe(
        self, name: str, fusion: LoadedFusion, active: Expression | None
    ) -> CompositionFile:
        """The whole active expression if it uses the fusion, else the fusion by itself."""
        is_active = active is not None and any(
            fuse.fusion == name for fuse in expression.fusions(active)
        )
        tree = active if active is not None and is_active else fusion.tree(name)
        pins = []
        for leaf in dict.fromkeys(expression.leaves(tree)):
            adapter = self._shelf.adapters.get(leaf)
            pin = adapter.pin if adapter else None
            known = fusion.pins.get(leaf) if isinstance(fusion, CompiledFusion) else None
            pins.append(known or MemberPin(leaf, *(pin or ())))
        return CompositionFile(str(tree), pins)

    def _compiled(
        self, name: str, fusion: LoadedFusion, files: FusionFiles
    ) -> CompiledFusion | None:
        """The compiled form to write, where one is asked for.

        Raises:
            CompositionError: The fusion or the format has no such form.
        """
        if files.form not in get_args(Form):
            raise CompositionError(
                f"A fusion has no form {files.form!r}.", hint="known: " + ", ".join(get_args(Form))
            )
        if files.form in ("trainable", "both") and isinstance(fusion, CompiledFusion):
            raise CompositionError(
                f"The fusion {name!r} is compiled: its projections are not known any more.",
                hint="save it with form='compiled'",
            )
        if files.form == "trainable":
            return None
        if files.format != "safetensors":
            raise CompositionError("A compiled fusion is written as safetensors only.")
        return compiledfusion.compiled(name, fusion, self._shelf.adapters)

    def _write_head(
        self,
        owner: LoadedAdapter | LoadedFusion,
        name: str,
        asked: str | None,
        folder: Path,
        form: Format,
    ) -> None:
        """Write the head that was asked for, or that of the owner's name, or the model's own trained with it."""
        own = asked or name
        if own in self._shelf.heads:
            checkpoint.write_head(folder, own, self._shelf.heads[own], self._backbone, form)
        elif asked is not None:
            raise self._shelf.unknown(asked)
        elif owner.trained_with_base_head:
            head = StaticHead.of(self._model)
            checkpoint.write_head(folder, own, head, self._backbone, form)

    def _folder(self, source: Any, *, any_base: bool) -> tuple[Path, str | None]:  # noqa: ANN401
        folder = Path(source)
        if folder.is_dir():
            return folder, None
        if not names.is_reference(str(source)):
            raise NotAnAdapter(source, ["a folder", "a reference such as nli/multinli@ukp"])
        if self._hub is None:
            from adapterhub_client import Hub  # noqa: PLC0415 - only needed to pull

            self._hub = Hub()
        pulled = self._hub.pull(
            str(source), base=self._base.fingerprint(), allow_base_mismatch=any_base
        )
        return Path(pulled), str(source)


def _outside_fusions(tree: Expression) -> Iterator[str]:
    """The adapters that act by themselves, and not only as members of a fusion."""
    if isinstance(tree, Leaf):
        yield tree.name
    elif not isinstance(tree, Fuse):
        for child in tree.children:
            yield from _outside_fusions(child)


def _holds_fusion(folder: Path) -> bool:
    return any(folders.holds(folder, files) for files in (folders.FUSION, folders.COMPILED))


class _Members(dict[str, Any]):
    """The loaded adapters, with an error of our own for one that is not."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf.adapters)
        self._shelf = shelf

    def __missing__(self, name: str) -> Any:  # noqa: ANN401
        raise self._shelf.unknown(name)
