"""Traces of other tools as bandwidth.csv."""

import json
from pathlib import Path

import pytest

from data.prep import trace
from eval.uplink.trace import read_trace


def test_every_trace_of_a_folder_is_written_as_the_study_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "source", tmp_path / "traces"
    source.mkdir()
    (source / "bus.up").write_text("0\n1\n1500\n")
    (source / "car.csv").write_text("Time,UL_bitrate\n0,8\n1,16\n5,8\n")
    (source / "README.md").write_text("no trace\n")
    command = ["--source", str(source), "--out", str(out), "--trace-unit", "kbit/s"]
    assert trace.main(["--source", str(source / "bus.up"), "--out", str(out)]) == 0
    assert read_trace(out / "bus.csv") == [3000, 1500]
    assert trace.main([*command[:1], str(source / "car.csv"), *command[2:]]) == 0
    assert read_trace(out / "car.csv") == [1000, 2000, 0, 0, 0, 1000]
    assert json.loads((out / "traces.json").read_text())["car"] == {
        "file": "car.csv",
        "form": "series",
        "seconds": 6,
        "mean_bytes_per_s": 666.7,
        "notes": ["read as kbit/s", "3 s of gaps kept as zeros"],
    }
    assert "3 s of gaps kept as zeros" in capsys.readouterr().out


def test_what_is_no_trace_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "a.up").write_text("1\n")
    (tmp_path / "empty" / "a.up").write_text("1\n")
    for sources, complaint in (
        (["nowhere"], "no such file or folder"),
        (["notes.txt"], "not a trace of a known form"),
        (["a.up", "empty"], "has the same name as"),
    ):
        paths = [str(tmp_path / name) for name in sources]
        assert trace.main(["--source", *paths, "--out", str(tmp_path / "out")]) == 1
        assert complaint in capsys.readouterr().err
