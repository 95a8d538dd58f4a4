"""The import rules of `CONTRIBUTING.md`, read from the source of every module."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("data", "train", "eval", "export")
HEAVY = ("torch", "torchvision", "ultralytics", "transformers", "peft", "llamafactory")
UNPICKLING = ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
SHELLS = ("dat_runtime.cli", "dat_runtime.demo")
SIDES = ("dat_runtime.edge", "dat_runtime.cloud")


def imported(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything that a module imports, wherever in it."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def allowed(module: str, name: str) -> bool:
    """Whether `module` may import `name`."""
    if module.startswith("dat_runtime"):
        if within(name, (*STAGES, *HEAVY, *UNPICKLING)):
            return False
        if within(module, SHELLS):
            return True
        here = tuple(side for side in SIDES if within(module, (side,)))
        others = tuple(side for side in SIDES if side not in here)
        return not within(name, (*others, *SHELLS))
    stage = module.partition(".")[0]
    return not within(name, tuple(other for other in STAGES if other != stage))


def broken_rules(source: str, module: str, is_package: bool = False) -> list[str]:
    names = imported(source, module, is_package)
    return [f"{module}:{line} imports {n}" for line, n in names if not allowed(module, n)]


def modules() -> list[Path]:
    return [p for top in ("dat_runtime", *STAGES) for p in sorted((ROOT / top).rglob("*.py"))]


def test_every_module_keeps_the_import_rules() -> None:
    found = modules()
    assert len(found) > 20
    broken = []
    for path in found:
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        broken += broken_rules(path.read_text("utf-8"), module, is_package)
    assert broken == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("train.gate", "from data.prep import build"),
        ("eval.predict", "import train.lora"),
        ("export.bundle", "def main():\n    from eval import score"),
        ("dat_runtime.gate", "import torch"),
        ("dat_runtime.edge.node", "def run():\n    from ultralytics.nn import tasks"),
        ("dat_runtime.manifest", "import pickle"),
        ("dat_runtime.draw", "from data.prep import scenes"),
        ("dat_runtime.event", "from dat_runtime.edge.detector import Detector"),
        ("dat_runtime.event", "from dat_runtime import edge"),
        ("dat_runtime.event", "from .edge import detector"),
        ("dat_runtime.edge.node", "from ..cloud import store"),
        ("dat_runtime.edge.node", "from dat_runtime.cli import main"),
    ],
)
def test_a_broken_rule_is_found(module: str, source: str) -> None:
    assert len(broken_rules(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "train.gate",
            "import torch\nfrom train import lora\nfrom dat_runtime.edge import detector",
        ),
        ("dat_runtime.edge.node", "from dat_runtime.edge.detector import Detector"),
        ("dat_runtime.edge.node", "from .. import gate\nfrom . import source"),
        ("dat_runtime.cli", "from dat_runtime.edge.bundle import open_bundle"),
        ("dat_runtime.adapter", "import database, trainer"),
    ],
)
def test_what_the_rules_allow_is_not_found(module: str, source: str) -> None:
    assert broken_rules(source, module) == []


def test_the_command_line_loads_nothing_heavy_until_it_works() -> None:
    program = (
        "import sys, dat_runtime.cli; "
        "print(sorted({'numpy', 'cv2', 'onnxruntime', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
