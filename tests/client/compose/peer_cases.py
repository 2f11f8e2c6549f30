"""Make interoperability cases with the reference library, or load with it what our code wrote.

    python peer_cases.py FOLDER [--only PREFIX ...] [--seed N]     makes cases
    python peer_cases.py FOLDER --load                             loads the cases of a manifest written elsewhere

Runs in the library's own environment, never in ours: it imports `adapters` and nothing of this project but the list of
kinds beside it. A case is adapters, fusions and heads as the library writes them, inputs, and what the library
computes; `manifest.json` names them all, and what the library refuses in its own words. Every case has been read
back from disk and computed again before it counts. Loading writes `report.json`: for each case the keys that did not
fit and how far the library's output is from the case's.
"""

import argparse
import contextlib
import copy
import json
import logging
import re
import shutil
import sys
import time
import warnings
import zlib
from pathlib import Path

import adapters
import torch
import transformers
from peer_kinds import (
    ARCHITECTURES,
    COMPOSITIONS,
    EAGER,
    HEADS,
    INVERTIBLE,
    METHODS,
    SEQ,
    kinds,
)
from peer_models import (
    BATCH,
    LENGTH,
    LOGITS,
    OUTPUTS,
    answer,
    answers_of,
    base_model,
    inputs_of,
    loaded,
    new_model,
    randomise,
    seeded,
    setup_of,
    worst,
)
from safetensors.torch import load_file, save_file

VISIBLE, ROUNDING = 0.2, 1e-5
SPLITS = {"vit": (2, 3)}
WEIGHTS = (0.7, 0.3)
LANGUAGE = {"vit": SEQ}  # no invertible adapters there
# Its eager attention fails with a prompt; sdpa is right without padding.
NO_EAGER_PROMPT = ("distilbert",)


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def add(model, name, method):
    model.add_adapter(name, config=method)
    randomise(model, name)


def written(tree, architecture):
    """The setup as the manifest has it; the weights of an average are those that a correct reader applies."""
    if isinstance(tree, str):
        return {"type": "single", "children": [tree]}
    kind, *children = tree
    node = {"type": kind, "children": [written(child, architecture) for child in children]}
    if kind == "Split":
        node["kwargs"] = {"splits": list(SPLITS.get(architecture, (4, LENGTH - 4)))}
    if kind == "BatchSplit":
        node["kwargs"] = {"batch_sizes": [1, BATCH - 1]}
    if kind == "Average":
        node["kwargs"] = {"weights": list(WEIGHTS), "normalize_weights": False}
    return node


def names_of(tree):
    return (
        [tree]
        if isinstance(tree, str)
        else [name for child in tree[1:] for name in names_of(child)]
    )


def fused(tree):
    """The names under the first Fuse of a tree."""
    if isinstance(tree, str):
        return None
    if tree[0] == "Fuse":
        return list(tree[1:])
    return next((found for child in tree[1:] if (found := fused(child))), None)


def saved(save, folder, *arguments, prefer):
    """Write in the format preferred; the library cannot write shared tensors as safetensors."""
    for name in (prefer, "bin"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with contextlib.suppress(RuntimeError):
            save(str(folder), *arguments, use_safetensors=name == "safetensors")
            return [name]
    raise ValueError(f"{folder} could not be written.")


class Maker:
    """One architecture's cases."""

    def __init__(self, root, architecture, seed):
        self.root, self.architecture, self.seed = root, architecture, seed
        model = base_model(architecture, seed)
        model.save_pretrained(root / "models" / architecture)
        self.state = copy.deepcopy(model.state_dict())
        self.cases, self.unsupported = [], []

    def implementation(self, kind):
        prefixed = any(word in kind for word in ("prefix", "prompt", "mam", "unipelt"))
        without = self.architecture in NO_EAGER_PROMPT and "prompt" in kind
        return "eager" if self.architecture in EAGER or (prefixed and not without) else "sdpa"

    def model_class(self, kind):
        """Bare where it can be: without a prefix in its keys the library forgets the tensors that layers share."""
        flexible = ARCHITECTURES[self.architecture][2]
        shares = any(word in kind for word in ("compacter", "vera"))
        return (
            flexible
            if kind.startswith("head:") or shares or zlib.crc32(kind.encode()) % 3 == 0
            else None
        )

    def make(self, kind):
        began = time.monotonic()
        try:
            case = self.case(kind)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the library's refusal
            sentence = " ".join(
                re.sub(" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}").split()
            )[:200]
            self.unsupported.append({"arch": self.architecture, "kind": kind, "error": sentence})
            return f"refused: {sentence}"
        self.cases.append(case)
        return (
            f"{case.get('max_abs_diff_vs_no_adapter', 0):.2f} in {time.monotonic() - began:.2f} s"
        )

    def case(self, kind):
        group, _, name = kind.partition(":")
        title = f"{self.architecture}-{kind}".replace(":", "-").replace("+", "p")
        class_name = self.model_class(kind) if kind != "base" else None
        implementation = self.implementation(kind)
        seeded(title, self.seed)
        model = new_model(self.architecture, self.state, implementation, class_name)
        padded = not (self.architecture in NO_EAGER_PROMPT and "prompt" in kind)
        inputs = inputs_of(self.architecture, padded=padded)
        plain = answer(model.base_model, inputs, OUTPUTS)
        case = {
            "id": title,
            "kind": kind,
            "arch": self.architecture,
            "base": f"models/{self.architecture}",
            "model_class": type(model).__name__,
            "flex_heads": hasattr(adapters, type(model).__name__),
            "setup": None,
            "adapters": [],
            "fusions": [],
            "heads": [],
            "tensors": f"cases/{title}.safetensors",
            "attn_implementation": implementation,
        }
        outputs = plain if group == "base" else getattr(self, group)(model, name, inputs, case)
        if group != "base":
            self.measure(case, plain, model, inputs)
        difference = worst(
            answers_of(loaded(self.root, self.state, case)[0], case, inputs), outputs
        )
        if difference > ROUNDING:
            raise ValueError(f"What the library reads back differs by {difference:.2g}.")
        case["outputs"] = sorted(f"out.{name}" for name in outputs)
        (self.root / "cases").mkdir(exist_ok=True)
        tensors = {f"in.{name}": value for name, value in inputs.items()}
        tensors |= {f"out.{name}": value.contiguous() for name, value in outputs.items()}
        save_file(tensors, self.root / case["tensors"])
        return case

    def measure(self, case, plain, model, inputs):
        """How far the adapters move the hidden states: a case that moves nothing shows nothing."""
        moved = answer(model.base_model, inputs, OUTPUTS)["last_hidden_state"]
        still = plain["last_hidden_state"]
        if moved.shape[0] != still.shape[0]:
            still = still.repeat(moved.shape[0] // still.shape[0], 1, 1)
        length = min(moved.shape[1], still.shape[1])
        difference = (moved[:, -length:] - still[:, -length:]).abs().max().item()
        if not difference > VISIBLE:
            raise ValueError(f"The library's output moves by {difference:.2g} only.")
        case["max_abs_diff_vs_no_adapter"] = difference

    def keep(self, case, model, name):
        prefer = ("safetensors", "bin")[zlib.crc32(f"{case['id']} {name}".encode()) % 2]
        path = f"adapters/{case['id']}/{name}"

        def save(folder, **options):
            model.save_adapter(folder, name, with_head=False, **options)

        case["adapters"].append(
            {"name": name, "path": path, "formats": saved(save, self.root / path, prefer=prefer)}
        )

    def method(self, model, name, inputs, case):
        add(model, "a", METHODS[name])
        model.set_active_adapters("a")
        case["setup"] = written("a", self.architecture)
        self.keep(case, model, "a")
        return answer(model.base_model, inputs, OUTPUTS)

    def comp(self, model, name, inputs, case):
        tree, method, *fusion = COMPOSITIONS[name]
        for member in names_of(tree):
            add(
                model,
                member,
                LANGUAGE.get(self.architecture, INVERTIBLE) if member == "lang" else method,
            )
            self.keep(case, model, member)
        if fusion:
            members = fused(tree)
            model.add_adapter_fusion(members, fusion[0])
            randomise(model, ",".join(members), std=0.15)
            path = f"adapters/{case['id']}/fusion__{'_'.join(members)}"

            def save(folder, **options):
                model.save_adapter_fusion(folder, ",".join(members), **options)

            formats = saved(save, self.root / path, prefer="safetensors")
            case["fusions"] = [
                {"names": members, "path": path, "config": fusion[0], "formats": formats}
            ]
        case["setup"] = written(tree, self.architecture)
        model.set_active_adapters(setup_of(case["setup"]))
        return answer(model.base_model, inputs, OUTPUTS)

    def head(self, model, name, inputs, case):
        if name == "static":
            return self.static_head(model, inputs, case)
        kind, options, method = HEADS[name]
        add(model, "a", method)
        self.keep(case, model, "a")
        if kind == "masked_lm" or kind.endswith("_lm"):
            getattr(model, f"add_{kind}_head")("a", **options)
        else:
            adder = {"question_answering": "qa"}.get(kind, kind)
            getattr(model, f"add_{adder}_head")("a", **options)
        head = model.heads["a"]
        embedding = head.get_output_embeddings()
        for parameter in head.parameters():
            if (
                embedding is None or parameter is not embedding.weight
            ):  # that one is the base model's
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
        path = f"adapters/{case['id']}/head__a"

        def save(folder, **extra):
            model.save_head(folder, "a", **extra)

        formats = saved(save, self.root / path, prefer="safetensors")
        case["heads"] = [{"name": "a", "path": path, "formats": formats}]
        model.set_active_adapters("a")
        model.active_head = "a"
        case["setup"], case["active_head"] = written("a", self.architecture), "a"
        return answer(model, inputs, LOGITS)

    def static_head(self, model, inputs, case):
        case["kind"], case["model_class"] = "static_head", type(model).__name__
        add(model, "a", SEQ)
        self.keep(case, model, "a")
        base = {id(parameter) for parameter in model.base_model.parameters()}
        for parameter in model.parameters():
            if id(parameter) not in base:
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
        path = f"adapters/{case['id']}/head__static"

        def save(folder, **extra):
            model.save_head(folder, **extra)

        formats = saved(save, self.root / path, prefer="safetensors")
        case["heads"] = [{"name": None, "path": path, "formats": formats}]
        model.set_active_adapters("a")
        case["setup"], case["active_head"] = written("a", self.architecture), None
        return answer(model, inputs, LOGITS)


def make_all(root, only, seed):
    """Every case whose `architecture/kind` begins with one of the prefixes."""
    manifest = {
        "format": 1,
        "made_by": {
            "adapters": adapters.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "seed": seed,
        "cases": [],
        "unsupported": [],
    }
    for architecture in ARCHITECTURES:
        wanted = [kind for kind in kinds(architecture) if f"{architecture}/{kind}".startswith(only)]
        if not wanted:
            continue
        began = time.monotonic()
        maker = Maker(root, architecture, seed)
        for kind in wanted:
            line = maker.make(kind)
            say(f"{architecture}/{kind}: {line}")
        manifest["cases"] += maker.cases
        manifest["unsupported"] += maker.unsupported
        counts = f"{len(maker.cases)} cases, {len(maker.unsupported)} refused"
        say(f"{architecture}: {counts}, {time.monotonic() - began:.1f} s")
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1))


def load_all(root):
    """Load every case of a manifest and say of each what did not fit."""
    states, report = {}, {}
    for case in json.loads((root / "manifest.json").read_text())["cases"]:
        base = root / case["base"]
        if base not in states:
            states[base] = transformers.AutoModel.from_pretrained(base).state_dict()
        report[case["id"]] = entry = {"missing_keys": [], "unexpected_keys": [], "error": None}
        try:
            model, info = loaded(root, states[base], case)
            tensors = load_file(root / case["tensors"])
            parts = {part: {} for part in ("in", "out")}
            for key, value in tensors.items():
                part, _, name = key.partition(".")
                parts[part][name] = value
            entry |= info | {
                "difference": worst(answers_of(model, case, parts["in"]), parts["out"])
            }
        except Exception as error:  # noqa: BLE001 - the report says what the library said
            entry["error"] = f"{type(error).__name__}: {error}"
        say(f"{case['id']}: {entry['error'] or entry['difference']}")
    (root / "report.json").write_text(json.dumps(report, indent=1))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--only", nargs="*", default=[""], metavar="PREFIX")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--load", action="store_true")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)  # the library says at every pass that no adapter is active
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.load:
        load_all(given.folder)
    else:
        make_all(given.folder, tuple(given.only), given.seed)


if __name__ == "__main__":
    sys.exit(main())
