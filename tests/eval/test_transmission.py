import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.transmission import main

C0 = Path("configs/transmission/c0.yaml")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "bandwidth.csv"
    rows = [f"{second},{200 + 37 * second % 91}" for second in range(900)]
    path.write_text("\n".join(["second,uplink_bytes_per_s", *rows]) + "\n")
    return path


def small(tmp_path, **changes):
    """C0 with fewer events, as a file."""
    text = C0.read_text()
    for old, new in changes.items():
        text = text.replace(f"{old}: ", f"{old}: {new}  # ", 1)
    path = tmp_path / "setting.yaml"
    path.write_text(text)
    return path


def test_the_quick_study_writes_table_3_with_the_papers_figures(tmp_path, trace, capsys):
    out = tmp_path / "out"
    config = small(tmp_path, events=60)
    arguments = ["--trace", str(trace), "--config", str(config), "--out", str(out), "--quick"]
    assert main([*arguments, "--seeds", "2"]) == 0
    rows = json.loads((out / "table3.json").read_text())
    assert [row["method"] for row in rows if row["block"].startswith("A")] == [
        "Bandwidth-Only",
        "Priority-Only",
        "DAT",
    ]
    assert len(rows) == 11
    assert rows[2]["paper"]["w_alarm"] == 0.0508
    assert set(rows[2]["w_alarm"]) == {"mean", "std"}
    assert "calibration, not evidence" in capsys.readouterr().out
    assert {"table3.png", "fig5.png", "fig6.png", "study.md"} <= {p.name for p in out.iterdir()}


def test_a_second_run_of_the_same_study_does_nothing(tmp_path, trace, capsys):
    config = small(tmp_path, events=20)
    arguments = ["--trace", str(trace), "--config", str(config), "--out", str(tmp_path / "out")]
    arguments += ["--quick", "--seeds", "1"]
    assert main(arguments) == 0
    first = (tmp_path / "out" / "study.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "out" / "study.json").stat().st_mtime_ns == first


def test_an_event_log_is_replayed_over_the_link_as_it_is(tmp_path, trace, capsys):
    log = tmp_path / "events.jsonl"
    lines = [
        {"id": "a", "priority": 0.9, "json_bytes": 100, "box_bytes": 50, "captured_at": 1e6 + 0.5},
        {"id": "b", "priority": 0.1, "json_bytes": 100, "captured_at": 1e6},
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    arguments = ["--trace", str(trace), "--config", str(C0), "--out", str(out)]
    assert main([*arguments, "--events", str(log)]) == 0
    rows = {row["planner"]: row for row in json.loads((out / "my_link.json").read_text())}
    assert rows["dat_live"]["no_alert"] == 0
    assert rows["dat_live"]["w_alarm"] < rows["dat"]["w_alarm"]
    assert "What this link would have done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--accept", "--quick"], "--accept needs the whole study"),
    ],
)
def test_arguments_that_make_no_sense_end_with_a_message(
    tmp_path, trace, capsys, arguments, message
):
    needed = ["--trace", str(trace), "--config", str(C0), "--out", str(tmp_path / "out")]
    assert main([*needed, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_needs_no_heavy_library():
    code = "import sys, eval.transmission; print({'matplotlib', 'scipy'} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
