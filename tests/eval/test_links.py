"""The table of claims over links, from traces to Markdown."""

import json
from pathlib import Path

import pytest
import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from data.prep import trace
from eval import links
from eval.uplink.acceptance import Figure
from eval.uplink.link_table import LinkFigures, as_markdown

C0 = Path("configs/transmission/c0.yaml")


def figure(value: str, passed: bool) -> Figure:
    return Figure("evidence", "a claim", value, "<= 1", passed)


def test_the_table_says_on_how_many_links_a_claim_holds() -> None:
    one = LinkFigures("near", 700, "0 to 700", True, [figure("0.5", True)])
    other = LinkFigures("far", 900, "200 to 900", False, [figure("1.5", False)])
    assert as_markdown([one, other]).splitlines() == [
        "| claim | demanded | near (fitted) | far | holds on |",
        "| --- | --- | --- | --- | --- |",
        "| seconds replayed | | 0 to 700 | 200 to 900 | |",
        "| a claim | <= 1 | 0.5 | **1.5** | 1 of 2 |",
    ]


@pytest.mark.slow
def test_foreign_traces_become_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "few.yaml"
    config.write_text(C0.read_text("utf-8").replace("events: 600", "events: 30"), "utf-8")
    source = tmp_path / "source"
    source.mkdir()
    lines = (str(7 * n) for n in range(6_000))
    (source / "bus.up").write_text("\n".join(lines) + "\n")
    (source / "notes.txt").write_text("no trace\n")
    out = str(tmp_path / "traces")
    assert trace.main(["--source", str(source), "--out", out]) == 0
    command = ["--traces", out, "--config", str(config), "--out", str(tmp_path / "links")]
    assert links.main([*command, "--seeds", "1", "--draws", "1"]) == 0
    shown = capsys.readouterr().out
    assert "| claim | demanded | bus | holds on |" in shown
    (found,) = json.loads((tmp_path / "links" / "links.json").read_text())
    assert (found["name"], found["seconds"], found["fitted_here"]) == ("bus", 42, False)
    assert {row["kind"] for row in found["figures"]} == {"evidence"}


def test_two_traces_of_one_name_and_an_empty_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/x.csv", "b/x.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("second,uplink_bytes_per_s\n0,1\n")
    (tmp_path / "c").mkdir()
    rest = ["--config", str(C0), "--out", str(tmp_path / "out")]
    assert links.main(["--traces", str(tmp_path / "a"), str(tmp_path / "b"), *rest]) == 1
    assert "have the same name: rename one" in capsys.readouterr().err
    assert links.main(["--traces", str(tmp_path / "c"), *rest]) == 1
    assert "holds no .csv: data.prep.trace makes them" in capsys.readouterr().err
