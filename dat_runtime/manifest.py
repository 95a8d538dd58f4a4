"""`manifest.json`: what a folder holds and where it came from, and whether that is still so.

    kind      what the folder is ("data", "gate", ...)
    inputs    name -> sha256 of each input's content
    config    the resolved configuration
    code      sha256 of the source that wrote it, with all that it imports from this repository
    versions  of those of prompt, schema and drawing that the content depends on, and of the prompts
              of a family other than Qwen2.5-VL, by its name
    outputs   relative path -> sha256

It holds no time and no path of the machine, so the same work gives the same manifest. `stage` makes
folders that have one.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dat_runtime import fields
from dat_runtime.draw import DRAWING_VERSION
from dat_runtime.errors import ManifestError
from dat_runtime.family import FAMILIES, QWEN2_5_VL, Family
from dat_runtime.files import read_json, write_json
from dat_runtime.prompt import PROMPT_VERSION, prompt_version
from dat_runtime.schema import SCHEMA_VERSION

NAME = "manifest.json"
VERSIONS = {"prompt": PROMPT_VERSION, "schema": SCHEMA_VERSION, "drawing": DRAWING_VERSION}
"""What every folder of questions depends on."""

OTHERS = [family for family in FAMILIES.values() if family is not QWEN2_5_VL]
KNOWN = VERSIONS | {family.name: prompt_version(family) for family in OTHERS}
"""With those of the families whose prompts differ from Qwen2.5-VL's."""

_MADE_BY = {
    "data": "data.prep.build",
    "gate": "train.gate",
    "instructions": "data.prep.instruct",
    "primer": "data.prep.primer",
    "base": "train.base",
    "lora": "train.lora",
    "adapter": "train.lora",
    "gating": "eval.gating",
    "cascade": "eval.cascade",
    "predictions": "eval.predict",
    "answers": "eval.predict",
    "proof": "eval.proof",
    "bundle": "export.bundle",
}
"""Command by the kind of folder that it makes, or by the name of an input."""

MODELS = ("base", "model")
"""Inputs that are models of Transformers."""

MODEL_FILE = re.compile(
    r"[\w-][\w.-]*\.(safetensors|safetensors\.index\.json|bin|bin\.index\.json)|"
    r"(config|generation_config|preprocessor_config|video_preprocessor_config|processor_config|"
    r"tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json|"
    r"merges\.txt|vocab\.txt|tokenizer\.model|chat_template\.jinja"
)
"""Names of the files that make a folder that model: weights, configuration, tokenizer."""

LARGE = 1 << 26
"""Bytes from which on a file of a model takes long to hash."""

_FIELDS = {
    "kind": fields.TEXT,
    "inputs": fields.OBJECT,
    "config": fields.OBJECT,
    "code": fields.TEXT,
    "versions": fields.OBJECT,
    "outputs": fields.OBJECT,
}


@dataclass(frozen=True)
class Manifest:
    """What a folder holds and where it came from."""

    kind: str
    inputs: dict[str, str]
    config: dict[str, Any]
    code: str
    versions: dict[str, int]
    outputs: dict[str, str]

    @property
    def family(self) -> Family:
        """The family of models whose prompts it depends on; Qwen2.5-VL where none is stated."""
        return next((family for family in OTHERS if family.name in self.versions), QWEN2_5_VL)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the outputs."""
        return {k: v for k, v in vars(self).items() if k != "outputs"}

    def differences(self, new: "Manifest") -> dict[str, str]:
        """Dotted name -> "old → new" of all that the recipes do not share, digests cut short."""
        before, after = _flat(self.recipe), _flat(new.recipe)
        found = {}
        for name in sorted(before.keys() | after.keys()):
            old, now = (_short(values.get(name)) for values in (before, after))
            if before.get(name) != after.get(name):
                found[name] = f"{old} → {now}"
        return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of nested mappings by its dotted name; those of `config` without that word."""
    values: dict[str, Any] = {}
    for name, value in tree.items():
        dotted = prefix if not prefix and name == "config" else f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            values |= _flat(value, f"{dotted}." if dotted else "")
        else:
            values[dotted] = value
    return values


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:12] if is_digest else fields.shown(value)


def how_to_make(folder: Path, kind: str | None) -> str:
    """What to do about a folder that is not there, in words."""
    if kind in _MADE_BY:
        return f"python -m {_MADE_BY[kind]} makes it"
    return f"run the stage that makes {folder}"


def digest(path: Path, kind: str | None = None) -> str:
    """sha256 of a file; of a folder, over its manifest's outputs if it has one, else its files.

    Of a model's folder only the files count that make it that model.

    Args:
        kind: of the folder, as `how_to_make` takes it.
    """
    if path.is_file():
        return _file_digest(path)
    if not path.is_dir():
        advice = f": {how_to_make(path, kind)}" if kind in _MADE_BY else ""
        raise ManifestError(f"{path}: no such file or folder{advice}")
    if (path / NAME).is_file():
        outputs = read(path).outputs
    elif kind in MODELS:
        outputs = {file.name: weights_digest(file) for file in path.iterdir() if decides(file)}
    else:
        outputs = file_digests(path)
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None


def weights_digest(path: Path) -> str:
    """sha256 of a file in a model's folder; a large one that stays as it is is read only once.

    A command compares its base more than once, and the 7B's weights are 15 GB.
    """
    state = path.stat()
    if state.st_size < LARGE:
        return _file_digest(path)
    return _remembered_digest(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache
def _remembered_digest(path: Path, *_: int) -> str:
    return _file_digest(path)


def decides(path: Path) -> bool:
    """Whether a file in a model's folder is one of its weights, configuration or tokenizer."""
    return MODEL_FILE.fullmatch(path.name) is not None and path.is_file()


def read(folder: Path, kind: str | None = None) -> Manifest:
    """The manifest of a folder.

    Raises:
        ManifestError: there is none, it cannot be read, or it is of another kind.
    """
    path = folder / NAME
    advice = f"make {folder} again"
    missing = how_to_make(folder, kind)
    value = read_json(path, ManifestError, missing=missing, broken=advice, strict=True)
    try:
        manifest = Manifest(**fields.checked(value, _FIELDS, ""))
    except ValueError as error:
        raise ManifestError(f"is not a manifest ({error}): {advice}", path) from None
    if kind is not None and manifest.kind != kind:
        raise ManifestError(f"{folder} holds {manifest.kind!r}, expected {kind!r}")
    return manifest


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder."""
    write_json(folder / NAME, vars(manifest), sort_keys=True)


def verify(folder: Path, kind: str | None = None) -> Manifest:
    """The manifest, after every file was compared with it.

    Raises:
        ManifestError: names the first file that is missing, changed or not listed, or the versions
            (of prompt, schema, drawing) that differ from this library's.
    """
    manifest = read(folder, kind)
    if others := {k: v for k, v in manifest.versions.items() if KNOWN.get(k) != v}:
        ours = {name: KNOWN.get(name) for name in others}
        raise ManifestError(
            f"{folder} was made with versions {others}, this library has {ours}: "
            "make it again, or use the library it was made with"
        )
    present = file_digests(folder)
    for name, sha in manifest.outputs.items():
        if name not in present:
            raise ManifestError(f"{folder / name} is missing, {NAME} lists it")
        if present[name] != sha:
            raise ManifestError(f"{folder / name} changed since it was written (sha256 differs)")
    unlisted = sorted(present.keys() - manifest.outputs.keys())
    if unlisted:
        raise ManifestError(f"{folder / unlisted[0]} is not listed in {NAME}")
    return manifest


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder but its manifest, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)
    return {p.relative_to(folder).as_posix(): digest(p) for p in files}
