"""The keys that Ultralytics and LLaMA-Factory take, read from their files: importing takes long.

A mistyped key is found before anything is prepared, and told in a line.
"""

import ast
import difflib
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.files import read_yaml

_LLAMAFACTORY = (
    "model_args.py", "data_args.py", "training_args.py", "finetuning_args.py", "generating_args.py"
)  # fmt: skip
_TRANSFORMERS = ("training_args.py", "training_args_seq2seq.py")
"""Where the keys are that LLaMA-Factory takes from Transformers."""


def ultralytics_defaults() -> dict[str, Any]:
    """Ultralytics' default configuration, which holds all of its keys."""
    defaults: dict[str, Any] = read_yaml(folder_of("ultralytics") / "cfg" / "default.yaml")
    return defaults


def llamafactory_keys() -> set[str]:
    """The fields of the classes from which LLaMA-Factory makes its parser."""
    files = [folder_of("llamafactory") / "hparams" / name for name in _LLAMAFACTORY]
    files += [folder_of("transformers") / name for name in _TRANSFORMERS]
    keys: set[str] = set()
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


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Names of a dataclass's fields that its constructor takes."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            options = line.value.keywords if isinstance(line.value, ast.Call) else []
            if not any(o.arg == "init" and ast.unparse(o.value) == "False" for o in options):
                yield line.target.id


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
