"""The wheel alone in an empty environment: built, installed, run; without the bench's packages.

    python -m export.edge_check --bundle OUT/bundle [--python python3.12]

Fails if the wheel holds weights or imports pickle, if torch, ultralytics or transformers can be
imported beside it, or if demo, plan or verify fail there.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import DatError, reports_errors

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = {
    ".onnx": ROOT / "requirements" / "field.txt",
    ".xml": ROOT / "requirements" / "openvino.txt",
}
"""By the suffix of the gate's model: with OpenVINO, and pinned, only where the gate needs it."""

ABSENT = ("torch", "ultralytics", "transformers", "llamafactory")
"""Packages of the bench: a node must not need them."""

WEIGHTS = (".pt", ".pth", ".onnx", ".safetensors", ".bin", ".pkl")
UNPICKLING = ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
"""Modules that run code from the data that they read."""

DEMO_SECONDS = 2.0
COMMAND_SECONDS = 600
"""For one command; a first installation downloads its packages."""

EVENTS = """\
{"id": "a", "priority": 0.9, "json_bytes": 450, "roi_bytes": 12000, "box_bytes": 40000}
{"id": "b", "priority": 0.2, "json_bytes": 400, "roi_bytes": null, "box_bytes": 38000}
"""
PLANNED = ["a json", "b json", "a roi"]
"""Algorithm 1 on `EVENTS` at 20 kB/s: the second visual does not fit."""


class EdgeCheckError(DatError):
    """The wheel alone does not pass a check."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("export.edge_check", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder made by export.bundle")
    parser.add_argument("--python", default=sys.executable, help="an installed Python (this one)")
    args = parser.parse_args(argv)
    bundle = args.bundle.resolve()
    manifest.read(bundle, "bundle")
    with tempfile.TemporaryDirectory(prefix="dat-edge-") as scratch:
        check(bundle, args.python, Path(scratch))
    return 0


def check(bundle: Path, python: str, scratch: Path) -> None:
    """All checks, with files in `scratch` only.

    Raises:
        EdgeCheckError: with the output of the command that failed.
    """
    wheel = build(scratch)
    check_wheel(wheel)
    _say(f"wheel {wheel.name}: {wheel.stat().st_size / 1000:.0f} kB, no weights")
    model = GateSettings.read(bundle / "gate" / GATE_FILE).model
    field = install(wheel, REQUIREMENTS[Path(model).suffix], python, scratch)
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    check_absent(field, elsewhere)
    version = _run([field, "--version"], elsewhere).strip()
    _say(
        f"environment: {version}, {_megabytes(scratch / 'field'):.0f} MB, "
        f"{', '.join(ABSENT)} cannot be imported"
    )
    program = field.with_name("dat-runtime")
    # Twice: at its first start Python compiles every module.
    seconds = min(_timed([program, "demo"], elsewhere) for _ in range(2))
    if seconds > DEMO_SECONDS:
        raise EdgeCheckError(f"demo took {seconds:.1f} s, at most {DEMO_SECONDS} s are allowed")
    _say(f"demo, recorded: {seconds:.2f} s")
    seconds = _timed([program, "demo", "--bundle", bundle, "--out", elsewhere / "out"], elsewhere)
    _say(f"demo, gate of the bundle: {seconds:.2f} s")
    check_plan(program, elsewhere)
    print(_run([program, "verify", bundle], elsewhere), end="", flush=True)
    _say("passed")


def build(scratch: Path) -> Path:
    """The wheel, built in an environment of its own."""
    _run([_uv(), "build", "--wheel", "--quiet", "--out-dir", scratch / "dist", ROOT], scratch)
    (wheel,) = (scratch / "dist").glob("*.whl")
    return wheel


def check_wheel(wheel: Path) -> None:
    """Only `dat_runtime`, no weights, and no code that imports pickle or a package of the bench.

    Raises:
        EdgeCheckError: names the first file that breaks this.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.startswith(("dat_runtime/", "dat_runtime-")):
                raise EdgeCheckError(f"{wheel.name} holds {name}")
            if name.endswith(WEIGHTS):
                raise EdgeCheckError(f"{wheel.name} holds weights: {name}")
            if name.endswith(".py"):
                imported = _imports(archive.read(name).decode("utf-8"))
                forbidden = imported & {*ABSENT, *UNPICKLING}
                if forbidden:
                    raise EdgeCheckError(f"{name} imports {', '.join(sorted(forbidden))}")


def _imports(source: str) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def install(wheel: Path, requirements: Path, python: str, scratch: Path) -> Path:
    """The Python of a new environment that holds the wheel and what it requires."""
    environment = scratch / "field"
    field = environment / "bin" / "python"
    _run([_uv(), "venv", "--quiet", "--python", python, environment], scratch)
    pip = [_uv(), "pip", "install", "--quiet", "--python", field]
    _run([*pip, "--require-hashes", "-r", requirements], scratch)
    _run([*pip, "--no-deps", "--no-index", wheel], scratch)
    _run([_uv(), "pip", "check", "--quiet", "--python", field], scratch)
    return field


def check_absent(field: Path, folder: Path) -> None:
    """None of the bench's packages can be imported, and the library is the installed one."""
    program = (
        "import importlib.util as u, dat_runtime; "
        f"print([n for n in {ABSENT!r} if u.find_spec(n)], dat_runtime.__file__)"
    )
    importable = _run([field, "-c", program], folder).strip()
    if not importable.startswith("[] ") or "site-packages" not in importable:
        raise EdgeCheckError(f"the field environment can import {importable}")


def check_plan(program: Path, folder: Path) -> None:
    """A batch is planned as Algorithm 1 plans it."""
    (folder / "events.jsonl").write_text(EVENTS, "utf-8")
    lines = _run([program, "plan", "events.jsonl", "--bandwidth", "20000"], folder).splitlines()
    transmissions = [json.loads(line) for line in lines]
    planned = [f"{one['event_id']} {one['kind']}" for one in transmissions]
    if planned != PLANNED:
        raise EdgeCheckError(f"planned {planned}, expected {PLANNED}")
    _say(f"plan of a batch: {', '.join(planned)}")


def _uv() -> str:
    """The uv of this environment, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"


def _timed(command: Sequence[str | Path], folder: Path) -> float:
    started = time.monotonic()
    _run(command, folder)
    return time.monotonic() - started


def _run(command: Sequence[str | Path], folder: Path) -> str:
    """The command's output, run away from the checkout so that nothing of it is found."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    environment.pop("VIRTUAL_ENV", None)
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode:
        words = " ".join(map(str, command[:4]))
        raise EdgeCheckError(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _megabytes(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def _say(words: str) -> None:
    print(f"[edge-check] {words}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
