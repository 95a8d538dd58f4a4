import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from dat_runtime.edge.settings import MODEL_SUFFIXES
from dat_runtime.stage import Stage
from export import edge_check
from export.edge_check import (
    EVENTS,
    PLANNED,
    REQUIREMENTS,
    EdgeCheckError,
    _run,
    check_wheel,
    main,
)


def wheel_of(folder: Path, **files: str) -> Path:
    path = folder / "dat_runtime-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ({"dat_runtime/gate.py": "import numpy"} | files).items():
            archive.writestr(name, content)
    return path


def test_a_wheel_of_the_field_library_alone_passes(tmp_path: Path) -> None:
    check_wheel(wheel_of(tmp_path, **{"dat_runtime/demo/frame.jpg": "picture"}))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train/gate.py", "", "holds train/gate.py"),
        ("dat_runtime/demo/gate.onnx", "", "holds weights"),
        ("dat_runtime/x.py", "def load():\n    from pickle import loads", "imports pickle"),
        ("dat_runtime/x.py", "import torch.nn as nn", "imports torch"),
    ],
)
def test_a_wheel_that_holds_too_much_is_refused(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(EdgeCheckError, match=words):
        check_wheel(wheel_of(tmp_path, **{name: content}))


def test_the_output_of_a_command_that_fails_is_shown(tmp_path: Path) -> None:
    with pytest.raises(EdgeCheckError, match="no such thing"):
        _run(["sh", "-c", "echo no such thing >&2; exit 3"], tmp_path)


def test_the_expected_plan_is_the_planner_s(tmp_path: Path) -> None:
    from dat_runtime.batch import read_batch
    from dat_runtime.schedule import plan

    (tmp_path / "events.jsonl").write_text(EVENTS)
    planned = plan(read_batch(tmp_path / "events.jsonl"), 20_000)
    assert [f"{t.event_id} {t.kind}" for t in planned] == PLANNED


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--bundle" in capsys.readouterr().out


def pinned(suffix: str) -> set[str]:
    lines = REQUIREMENTS[suffix].read_text().splitlines()
    return {line.split()[0] for line in lines if line[:1].isalpha()}


def test_there_are_pinned_requirements_for_every_engine_and_the_same_but_for_the_engine() -> None:
    assert REQUIREMENTS.keys() == set(MODEL_SUFFIXES)
    more = {name.partition("==")[0] for name in pinned(".xml") - pinned(".onnx")}
    assert more == {"openvino", "openvino-telemetry"}
    assert pinned(".onnx") < pinned(".xml")


def test_a_module_s_imports_are_the_packages_wherever_they_stand() -> None:
    source = (
        "import a.b, c as d\nfrom e.f import g\nfrom . import h\nfrom .i import j\n"
        "def k():\n    try:\n        import l\n    finally:\n        from m import n\n"
    )
    assert edge_check._imports(source) == {"a", "c", "e", "l", "m"}


def test_what_a_wheel_may_not_hold_is_told_with_its_name(tmp_path: Path) -> None:
    name = "dat_runtime-0.1.0-py3-none-any.whl"
    for files, words in (
        ({"x": ""}, f"{name} holds x"),
        ({"dat_runtime/a.safetensors": ""}, f"{name} holds weights: dat_runtime/a.safetensors"),
        ({"dat_runtime/x.py": "import torch, joblib"}, "dat_runtime/x.py imports joblib, torch"),
    ):
        with pytest.raises(EdgeCheckError, match=f"^{re.escape(words)}$"):
            check_wheel(wheel_of(tmp_path, **files))
    check_wheel(wheel_of(tmp_path, **{"dat_runtime-0.1.0.dist-info/RECORD": "import torch"}))


Ran = list[tuple[list[str], Path]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """What is run, and where; each program says what the test wants."""
    commands: Ran = []

    def run(command: list[object], folder: Path) -> str:
        words = [str(part) for part in command]
        commands.append((words, folder))
        return answers(words)

    monkeypatch.setattr(edge_check, "_run", run)
    monkeypatch.setattr(edge_check, "_uv", lambda: "uv")
    return commands


def answers(words: list[str]) -> str:
    if "build" in words:
        wheel_of(Path(words[words.index("--out-dir") + 1]))
    if "venv" in words:
        (Path(words[-1]) / "lib").mkdir(parents=True)
        (Path(words[-1]) / "lib" / "a").write_bytes(b"x" * 2_500_000)
    if "-c" in words:
        return "[] /x/site-packages/dat_runtime/__init__.py\n"
    if "plan" in words:
        units = (line.split() for line in PLANNED)
        return "".join(f'{{"event_id": "{id}", "kind": "{kind}"}}\n' for id, kind in units)
    return {"--version": "dat-runtime 9\n", "verify": "fine\n"}.get(words[1], "")


@pytest.mark.parametrize(("model", "file"), [("gate.onnx", "field"), ("gate.xml", "openvino")])
def test_the_wheel_is_built_installed_and_run_away_from_the_checkout(
    tmp_path: Path,
    ran: Ran,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    file: str,
) -> None:
    (tmp_path / "dist").mkdir()
    settings = SimpleNamespace(read=lambda path: {bundle / "gate/gate.json": told}[path])
    bundle, told = tmp_path / "bundle", SimpleNamespace(model=model)
    monkeypatch.setattr(edge_check, "GateSettings", settings)
    clock = iter([0.0, 9.0, 20.0, 21.5, 30.0, 33.25])
    monkeypatch.setattr(edge_check, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    edge_check.check(bundle, "python3.12", tmp_path)
    away, there = str(tmp_path / "elsewhere"), tmp_path / "elsewhere"
    field = str(tmp_path / "field/bin/python")
    program = str(tmp_path / "field/bin/dat-runtime")
    wheel = str(tmp_path / "dist/dat_runtime-0.1.0-py3-none-any.whl")
    pip = ["uv", "pip", "install", "--quiet", "--python", field]
    root = edge_check.ROOT
    (absent,) = [command for command, _ in ran if "-c" in command]
    assert ran == [
        (
            [*("uv", "build", "--wheel", "--quiet", "--out-dir", f"{tmp_path}/dist"), str(root)],
            tmp_path,
        ),
        (["uv", "venv", "--quiet", "--python", "python3.12", f"{tmp_path}/field"], tmp_path),
        ([*pip, "--require-hashes", "-r", f"{root}/requirements/{file}.txt"], tmp_path),
        ([*pip, "--no-deps", "--no-index", wheel], tmp_path),
        (["uv", "pip", "check", "--quiet", "--python", field], tmp_path),
        (absent, there),
        ([field, "--version"], there),
        ([program, "demo"], there),
        ([program, "demo"], there),
        ([program, "demo", "--bundle", str(bundle), "--out", f"{away}/out"], there),
        ([program, "plan", "events.jsonl", "--bandwidth", "20000"], there),
        ([program, "verify", str(bundle)], there),
    ]
    assert absent[:2] == [field, "-c"]
    assert "('torch', 'ultralytics', 'transformers', 'llamafactory')" in absent[2]
    assert (there / "events.jsonl").read_text() == EVENTS
    assert capsys.readouterr().out.splitlines() == [
        "[edge-check] wheel dat_runtime-0.1.0-py3-none-any.whl: 0 kB, no weights",
        "[edge-check] environment: dat-runtime 9, 2 MB, torch, ultralytics, transformers,"
        " llamafactory cannot be imported",
        "[edge-check] demo, recorded: 1.50 s",
        "[edge-check] demo, gate of the bundle: 3.25 s",
        "[edge-check] plan of a batch: a json, b json, a roi",
        "fine",
        "[edge-check] passed",
    ]


def test_a_demo_that_takes_too_long_is_refused(
    tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist").mkdir()
    told = SimpleNamespace(read=lambda _: SimpleNamespace(model="a.onnx"))
    monkeypatch.setattr(edge_check, "GateSettings", told)
    clock = iter([0.0, 2.25, 10.0, 12.125])
    monkeypatch.setattr(edge_check, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    words = r"^demo took 2\.1 s, at most 2\.0 s are allowed$"
    with pytest.raises(EdgeCheckError, match=words):
        edge_check.check(tmp_path, "python3", tmp_path)


@pytest.mark.parametrize(
    "said", ["['torch'] /x/site-packages/dat_runtime", "[] /checkout/dat_runtime"]
)
def test_a_node_that_can_import_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(edge_check, "_run", lambda *_: f" {said}\n")
    words = f"^{re.escape(f'the field environment can import {said}')}$"
    with pytest.raises(EdgeCheckError, match=words):
        edge_check.check_absent(Path("python"), tmp_path)


def test_another_plan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_check, "_run", lambda *_: '{"event_id": "b", "kind": "json"}\n')
    words = f"^{re.escape(f'''planned ['b json'], expected {PLANNED}''')}$"
    with pytest.raises(EdgeCheckError, match=words):
        edge_check.check_plan(Path("program"), tmp_path)


def test_a_command_runs_elsewhere_without_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("VIRTUAL_ENV", "here")
    monkeypatch.setenv("KEPT", "kept")
    script = 'pwd; echo "$PYTHONPATH $VIRTUAL_ENV $UV_PYTHON_DOWNLOADS $KEPT"; echo no >&2'
    assert _run(["sh", "-c", script], tmp_path) == f"{tmp_path}\n  never kept\n"
    words = r"^sh -c echo out; echo err >&2; exit 3 a ended with 3:\nout\nerr\n$"
    with pytest.raises(EdgeCheckError, match=words):
        _run(["sh", "-c", "echo out; echo err >&2; exit 3", Path("a"), "b"], tmp_path)
    given: dict[str, object] = {}

    def run(command: list[str], **options: object) -> SimpleNamespace:
        given.update(options)
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(edge_check.subprocess, "run", run)
    _run(["a"], tmp_path)
    assert given["timeout"] == 600


def test_uv_is_that_of_this_environment_or_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_check.sys, "executable", str(tmp_path / "python"))
    assert edge_check._uv() == "uv"
    (tmp_path / "uv").touch()
    assert edge_check._uv() == str(tmp_path / "uv")


def test_a_bundle_is_checked_in_a_folder_that_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[Path, str, Path]] = []
    monkeypatch.setattr(edge_check, "check", lambda *told: given.append(told))
    assert main(["--bundle", str(tmp_path)]) == 1
    assert "manifest.json: is missing: python -m export.bundle makes it" in capsys.readouterr().err
    with Stage(tmp_path / "b", kind="bundle", inputs={}, config={}) as folder:
        (folder / "a").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert main(["--bundle", "b"]) == 0
    assert main(["--bundle", "b", "--python", "python3.12"]) == 0
    assert [(bundle, python) for bundle, python, _ in given] == [
        (tmp_path / "b", edge_check.sys.executable),
        (tmp_path / "b", "python3.12"),
    ]
    assert given[0][2].name.startswith("dat-edge-")
    assert not given[0][2].exists()
    with pytest.raises(SystemExit):
        main([])
