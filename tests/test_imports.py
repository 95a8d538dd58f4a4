"""The import rules and the rooms of `CONTRIBUTING.md`, read from the source of every module."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("data", "train", "eval", "export")
HEAVY = ("torch", "torchvision", "ultralytics", "transformers", "peft", "llamafactory")
UNPICKLING = ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
STAGE_FOLDERS = ("data/prep", "train", "eval", "export")
SHARED = ("train.offloading",)
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
    if within(name, SHARED):  # what stages share and the wheel may not hold, for it is torch
        return not within(module, ("data",))
    stage = module.partition(".")[0]
    return not within(name, tuple(other for other in STAGES if other != stage))


def broken_rules(source: str, module: str, is_package: bool = False) -> list[str]:
    names = imported(source, module, is_package)
    return [f"{module}:{line} imports {n}" for line, n in names if not allowed(module, n)]


def modules() -> list[Path]:
    return [p for top in ("dat_runtime", *STAGES) for p in sorted((ROOT / top).rglob("*.py"))]


def name_of(path: Path, root: Path = ROOT) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def sources(root: Path = ROOT) -> dict[str, str]:
    """Module -> source, of all modules of the repository that are not tests."""
    return {name_of(path, root): path.read_text("utf-8") for path in modules()}


def commands() -> list[str]:
    """The modules that lie directly in a stage's folder."""
    found = []
    for folder in STAGE_FOLDERS:
        files = sorted((ROOT / folder).glob("*.py"))
        found += [name_of(file) for file in files if file.name != "__init__.py"]
    return found


def is_command(source: str) -> bool:
    """Whether `python -m` runs the module's `main`, which tests and scripts can call too."""
    body = ast.parse(source).body
    has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)
    last = ast.unparse(body[-1])
    return has_main and last == "if __name__ == '__main__':\n    raise SystemExit(main())"


def graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the modules of the repository that it imports, those inside functions too."""
    edges: dict[str, set[str]] = {}
    for module, text in texts.items():
        edges[module] = set()
        for _, name in imported(text, module):
            target = name if name in texts else name.rpartition(".")[0]
            if target in texts and target != module:
                edges[module].add(target)
    return edges


def circle(texts: Mapping[str, str]) -> list[str]:
    """A circle of imports, as far as there is one."""
    try:
        TopologicalSorter(graph(texts)).prepare()
    except CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def test_every_module_keeps_the_import_rules() -> None:
    assert len(modules()) > 20
    broken = []
    for path in modules():
        is_package = path.name == "__init__.py"
        broken += broken_rules(path.read_text("utf-8"), name_of(path), is_package)
    assert broken == []


def test_a_file_directly_in_a_stage_is_a_command() -> None:
    texts = sources()
    assert len(commands()) > 15
    assert [name for name in commands() if not is_command(texts[name])] == []


@pytest.mark.parametrize(
    "source",
    [
        "def parts() -> int:\n    return 3\n",
        "def main() -> int:\n    return 0\n",
        "if __name__ == '__main__':\n    raise SystemExit(main())\n",
    ],
)
def test_a_file_of_parts_is_no_command(source: str) -> None:
    assert not is_command(source)


def imports_of_commands(texts: Mapping[str, str], names: list[str]) -> list[str]:
    """Which modules import one of the commands."""
    pairs = [(name, edge) for name, edges in graph(texts).items() for edge in sorted(edges)]
    return [f"{name} imports {edge}" for name, edge in pairs if edge in names]


def test_nothing_imports_a_command_of_a_stage() -> None:
    assert imports_of_commands(sources(), commands()) == []


def test_a_room_that_imports_a_command_is_found() -> None:
    texts = {"eval.score": "", "eval.room.part": "def late():\n    from eval.score import main"}
    assert imports_of_commands(texts, ["eval.score"]) == ["eval.room.part imports eval.score"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(sources()) == []


def test_a_circle_is_found_through_functions_and_packages() -> None:
    texts = {
        "eval.a.x": "from eval.a import y",
        "eval.a.y": "def late():\n    from eval.b.z import name",
        "eval.b.z": "import eval.a.x",
    }
    assert set(circle(texts)) == {"eval.a.x", "eval.a.y", "eval.b.z"}
    assert circle(texts | {"eval.b.z": "import json"}) == []


def code_in_package(source: str) -> list[str]:
    """What an `__init__.py` holds besides texts and a version."""
    code = [ast.unparse(node) for node in ast.parse(source).body if not isinstance(node, ast.Expr)]
    return [line for line in code if not line.startswith("__version__ = ")]


def test_packages_hold_no_code() -> None:
    """What is reached through an `__init__.py` escapes the digest of a stage's sources."""
    for path in ROOT.glob("**/__init__.py"):
        if path.relative_to(ROOT).parts[0].startswith("."):  # no part of the repository
            continue
        assert code_in_package(path.read_text("utf-8")) == [], path


def test_code_in_a_package_is_found() -> None:
    assert code_in_package('"""A room."""\nfrom eval.room import part\n') == [
        "from eval.room import part"
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("train.gate", "from data.prep import build"),
        ("eval.predict", "import train.lora"),
        ("export.bundle", "def main():\n    from eval import score"),
        ("data.prep.build", "from train.offloading.tower import head"),
        ("dat_runtime.cloud.store", "from train.offloading.codec import read_codec"),
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
        ("eval.answers.server", "from train.offloading.tower import head"),
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
