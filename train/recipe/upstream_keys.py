"""The keys that Ultralytics and LLaMA-Factory take, read from their files: importing takes long.

A mistyped key, or a text in a number's place, is found before anything is prepared, and told in a
line.
"""

import ast
import contextlib
import difflib
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.errors import ConfigError
from dat_runtime.fields import shown
from dat_runtime.files import read_yaml

_LLAMAFACTORY = (
    "model_args.py", "data_args.py", "training_args.py", "finetuning_args.py", "generating_args.py"
)  # fmt: skip
_TRANSFORMERS = ("training_args.py", "training_args_seq2seq.py")
"""Where the keys are that LLaMA-Factory takes from Transformers."""

_EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}
"""Types that LLaMA-Factory takes a value to have and does not read out of a text, in words."""


def ultralytics_defaults() -> dict[str, Any]:
    """Ultralytics' default configuration, which holds all of its keys."""
    defaults: dict[str, Any] = read_yaml(folder_of("ultralytics") / "cfg" / "default.yaml")
    return defaults


def llamafactory_keys() -> dict[str, str]:
    """The fields of the classes from which LLaMA-Factory makes its parser, with their types."""
    files = [folder_of("llamafactory") / "hparams" / name for name in _LLAMAFACTORY]
    files += [folder_of("transformers") / name for name in _TRANSFORMERS]
    keys: dict[str, str] = {}
    for file in files:
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.ClassDef):
                keys.update(_fields(node))
    return keys


def folder_of(package: str) -> Path:
    """Where an installed package lies."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{package} is not installed: make setup")
    return Path(spec.origin).parent


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Names and types of a dataclass's fields that its constructor takes."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            options = line.value.keywords if isinstance(line.value, ast.Call) else []
            if not any(o.arg == "init" and ast.unparse(o.value) == "False" for o in options):
                yield line.target.id, ast.unparse(line.annotation)


def demand_known(config: Mapping[str, Any], known: Collection[str], tool: str) -> None:
    """Refuse a key that the tool would refuse.

    Raises:
        ConfigError: names the key, and the one that is most like it.
    """
    for key in config:
        if key not in known:
            like = difflib.get_close_matches(key, known, n=1)
            words = f": is {like[0]} meant?" if like else ""
            raise ConfigError(f"{key} is no key of {tool}{words}")


def demand_llamafactory(config: Mapping[str, Any]) -> None:
    """Refuse what LLaMA-Factory fails on: an unknown key, a text instead of a number or a flag.

    Raises:
        ConfigError: names the key, and the one that is meant or what is expected.
    """
    types = llamafactory_keys()
    demand_known(config, types, "LLaMA-Factory")
    for key, value in config.items():
        kind = types[key].removesuffix(" | None")
        if kind in _EXPECTED and isinstance(value, str) and not _reads_as(kind, value):
            raise ConfigError(f"{key} is the text {shown(value)}, expected {_EXPECTED[kind]}")


def _reads_as(kind: str, text: str) -> bool:
    """Whether the tool reads a number where YAML 1.1 reads a text, as it does from 5e-5."""
    if kind != "float" or not isinstance(yaml.safe_load(text), str):
        return False
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False
