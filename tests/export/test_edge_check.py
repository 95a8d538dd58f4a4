import zipfile
from pathlib import Path

import pytest

from dat_runtime.edge.settings import MODEL_SUFFIXES
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
