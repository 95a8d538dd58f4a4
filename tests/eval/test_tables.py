"""Tables 1-3 and the report, made from small folders."""

import csv
import html.parser
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.manifest import verify
from dat_runtime.prompt import task_prompt
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Detection, Severity, Size
from eval.answers import usage
from eval.paper import printed
from eval.tables import main
from eval.understanding import formats, grids, trivial
from eval.understanding.assembly import assemble, measured_on
from eval.understanding.terminal import terminal

SIZE = Size(100, 80)
EVIL = '{"<script>alert(1)</script>": "</pre><img src=http://evil.example/x>"}'
FRAMES = 12


def box(i: int) -> Box:
    return Box(10 + i, 10, 50 + i, 40, SIZE)


def severity(i: int) -> Severity:
    return "severe" if i % 2 else "moderate"


def good(i: int) -> str:
    return dump(target([Accident(box(i), severity(i))]))


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")


class Evaluation:
    """Instructions of a dozen frames, and rows of answers about them."""

    def __init__(self, path: Path):
        self.path = path
        self.instructions = path / "instructions"
        truth = []
        for i in range(FRAMES):
            accident = {"bbox": list(box(i).pixels()), "severity": severity(i)}
            size = {"width": SIZE.width, "height": SIZE.height}
            truth.append({"image_id": f"f{i}", "image": "", **size, "accidents": [accident]})
            picture = self.instructions / "images" / "raw" / "test" / f"f{i}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(picture), np.full((28, 28, 3), 9 * i, np.uint8))
        write_lines(self.instructions / "truth.jsonl", truth)
        self.add("raw-none", [EVIL, None, *(good(i) for i in range(2, FRAMES))])
        self.add("boxed-lora", [good(i) for i in range(FRAMES)])

    def add(self, row: str, texts: list[str | None]) -> None:
        records = [
            {"image_id": f"f{i}", "text": text, "latency_s": 0.1}
            for i, text in enumerate(texts)
            if text is not None
        ]
        write_lines(self.path / "predictions" / row / "predictions.jsonl", records)

    def run(self, *options: str) -> int:
        return main(
            [
                *("--instructions", str(self.instructions)),
                *("--predictions", str(self.path / "predictions")),
                *("--out", str(self.out)),
                *options,
            ]
        )

    @property
    def out(self) -> Path:
        return self.path / "eval"

    @property
    def tables(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "tables.json").read_text("utf-8"))
        return found

    @property
    def page(self) -> str:
        return (self.out / "report.html").read_text("utf-8")


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    return Evaluation(tmp_path)


def row_of(found: dict[str, Any], table: str, name: str) -> dict[str, Any]:
    return next(row for row in found[table] if row["row"] == name)


def test_ours_stands_beside_the_papers(evaluation: Evaluation) -> None:
    assert evaluation.run() == 0
    row = row_of(evaluation.tables, "table_1", "boxed-lora")
    assert (row["model"], row["input"], row["tuning"]) == ("Ours", "Boxed image", "LoRA")
    assert row["paper"]["sev_acc"] == 0.9883
    assert row["ours"]["n"] == FRAMES
    assert row["ours"]["sev_acc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert row_of(evaluation.tables, "table_2", "raw-none")["paper"] is None
    assert row_of(evaluation.tables, "table_2", "raw-none")["ours"]["missing"] == 1


def test_rows_that_were_not_run_keep_the_papers_figures_and_say_so(evaluation: Evaluation) -> None:
    evaluation.run()
    gpt = row_of(evaluation.tables, "table_1", "gpt-5")
    assert gpt["paper"]["count_em"] == 0.963
    assert (gpt["ours"], gpt["note"]) == (None, "no endpoint was given")
    assert row_of(evaluation.tables, "table_1", "raw-lora")["note"] == "not run"


def test_a_row_that_the_paper_does_not_have_is_shown_too(evaluation: Evaluation) -> None:
    evaluation.add("mine", [good(i) for i in range(FRAMES)])
    evaluation.run()
    row = row_of(evaluation.tables, "table_2", "mine")
    assert (row["model"], row["paper"]) == ("mine", None)
    assert row["ours"]["parse"]["value"] == 1.0


def test_constrained_decoding_is_a_labelled_row_after_the_main_ones(evaluation: Evaluation) -> None:
    for name in ("boxed-lora-constrained", "boxed-lora-ruled"):
        evaluation.add(name, [good(i) for i in range(FRAMES)])
    evaluation.run()
    *_, bound, ruled, never = evaluation.tables["table_2"]
    assert (bound["row"], ruled["row"]) == ("boxed-lora-constrained", "boxed-lora-ruled")
    assert (bound["model"], bound["tuning"]) == ("tiny Qwen2.5-VL", "LoRA, constrained decoding")
    assert ruled["tuning"] == "LoRA, decoding that keeps the rules"
    assert (bound["paper"], never["row"]) == (None, "trivial-never")
    assert row_of(evaluation.tables, "table_2", "boxed-lora")["tuning"] == "LoRA"


def test_a_row_that_was_cut_off_is_left_out(evaluation: Evaluation) -> None:
    evaluation.add("boxed-none.partial", [good(0)])
    evaluation.run()
    assert not (evaluation.out / "boxed-none.partial").exists()
    assert row_of(evaluation.tables, "table_2", "boxed-none")["note"] == "not run"


def test_the_folder_is_whole_and_says_what_it_was_made_from(evaluation: Evaluation) -> None:
    evaluation.run()
    made = verify(evaluation.out, "eval")
    assert {
        "report.html",
        "raw-none/scores.json",
        *(f"tables.{s}" for s in formats.FORMATS),
    } <= set(made.outputs)
    assert set(made.inputs) == {"instructions", "row raw-none", "row boxed-lora"}


def test_a_second_run_does_nothing(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.run()
    evaluation.run()
    assert "up to date" in capsys.readouterr().out


def test_the_papers_figures_are_those_printed_in_it() -> None:
    """Typed again from Tables 1 and 2, by column."""
    columns = {m: [row[m] for row in printed.table(1)] for m in grids.COLUMNS_1}
    assert columns == {
        "count_em": [0.7898, 0.8086, 0.9630, 0.9550],
        "count_mae": [0.2150, 0.1943, 0.0370, 0.0500],
        "sev_acc": [0.7536, 0.8447, 0.9849, 0.9883],
        "sev_f1": [0.7001, 0.8362, 0.9836, 0.9874],
        "bbox_miou": [0.1671, 0.5440, 0.5312, 0.6833],
        "recall_50": [0.0070, 0.6871, 0.5809, 0.8483],
    }
    columns = {m: [row[m] for row in printed.table(2)] for m in grids.COLUMNS_2}
    assert columns == {
        "parse": [1.0, 1.0, 1.0],
        "schema": [0.9983, 0.9831, 1.0],
        "rule": [0.9783, 0.9831, 1.0],
        "viol": [0.0017, 0.0101, 0.0],
    }


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_small_or_rendered_figures_never_pass_for_the_papers(profile: str) -> None:
    assert "not the paper's accuracy" in measured_on(profile, "")
    assert "not the paper's accuracy" in measured_on("smoke", "public")
    assert "not the paper's accuracy" not in measured_on("paper", "public")
    assert "'public'" in measured_on(profile, "public")


def test_every_format_says_what_ours_was_measured_on(evaluation: Evaluation) -> None:
    evaluation.run("--source", "my-cameras")
    label = "frames of 'my-cameras', a tiny Qwen2.5-VL"
    for name in ("tables.json", "tables.md", "tables.tex"):
        assert label in (evaluation.out / name).read_text("utf-8"), name
    assert label.replace("'", "&#x27;") in evaluation.page


def test_the_terminal_table_fits_a_hundred_columns(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.run("--transmission", str(transmission(evaluation.path)))
    capsys.readouterr()
    assert main(["--show", str(evaluation.out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    for part in ("98.83%", "no endpoint was given", "Table 3", "calibration", "rule of three"):
        assert part.lower() in text.lower(), part


def test_tables_of_another_version_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ({"table_1": [{"row": "raw-none", "model": "Ours"}]}, [], {}):
        (tmp_path / "tables.json").write_text(json.dumps(content))
        assert main(["--show", str(tmp_path)]) == 1
        assert "is not what eval.tables writes now: run it again" in capsys.readouterr().err


def test_csv_holds_the_unrounded_figures(evaluation: Evaluation) -> None:
    evaluation.run()
    rows = list(csv.DictReader(io.StringIO((evaluation.out / "tables.csv").read_text("utf-8"))))
    found = {(r["row"], r["source"], r["metric"]): r for r in rows}
    ours = row_of(evaluation.tables, "table_1", "raw-none")["ours"]["count_em"]
    assert float(found["raw-none", "ours", "count_em"]["value"]) == ours["value"]
    assert float(found["gpt-5", "paper", "viol"]["value"]) == 0.0101


def test_latex_escapes_what_latex_reads(evaluation: Evaluation) -> None:
    evaluation.add("100%_mine", [good(i) for i in range(FRAMES)])
    evaluation.run()
    text = (evaluation.out / "tables.tex").read_text("utf-8")
    assert r"100\%\_mine" in text
    assert not re.search(r"(?<!\\)%(?! ours)", text)


def test_rows_are_compared_in_words(evaluation: Evaluation) -> None:
    evaluation.add("raw-none", [*([None] * 6), *(good(i) for i in range(6, FRAMES))])
    evaluation.add("raw-lora", [good(i) for i in range(FRAMES)])
    evaluation.run()
    told = {(c["row"], c["against"]): c["sentence"] for c in evaluation.tables["comparisons"]}
    assert "is better in Count EM, Count MAE" in told["boxed-lora", "raw-none"]
    assert "cannot be told apart in Viol." in told["boxed-lora", "raw-none"]
    assert "better" not in told["boxed-lora", "raw-lora"]


def test_every_pair_of_rows_is_one_line_of_one_table(evaluation: Evaluation) -> None:
    evaluation.add("raw-none", [*([None] * 6), *(good(i) for i in range(6, FRAMES))])
    evaluation.add("own", [good(i) for i in range(FRAMES)])
    evaluation.run()
    grid = grids.comparisons(evaluation.tables)
    assert [row[:2] for row in grid.rows] == [
        ["boxed-lora", "raw-none"],
        ["own", "raw-none"],
        ["own", "boxed-lora"],
    ]
    assert [row[2:4] for row in grid.rows] == [
        ["better (+50.0)", "better (-0.500)"],
        ["better (+50.0)", "better (-0.500)"],
        ["=", "="],
    ]
    text = (evaluation.out / "tables.md").read_text("utf-8")
    assert "| boxed-lora | raw-none | better (+50.0) | better (-0.500) |" in text
    assert "cannot be told apart in" not in evaluation.page


def test_the_tiny_model_is_called_by_its_own_name(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.run()
    lines = (evaluation.out / "tables.md").read_text("utf-8").splitlines()
    ours = [line for line in lines if "| ours | 12 |" in line and "Never" not in line]
    assert len(ours) == 4
    assert all(line.startswith("| tiny Qwen2.5-VL |") for line in ours)
    capsys.readouterr()
    main(["--show", str(evaluation.out)])
    shown = capsys.readouterr().out
    assert "tiny Qwen Boxed LoRA  ours       100.00%" in shown
    assert "Ours Boxed LoRA       paper       95.50%" in shown


def test_a_model_of_the_papers_size_is_called_as_the_papers(evaluation: Evaluation) -> None:
    evaluation.run("--profile", "paper", "--source", "public")
    text = (evaluation.out / "tables.md").read_text("utf-8")
    assert "tiny" not in text
    assert "| Qwen2.5-VL-7B-Instruct | Raw image | None | ours | 12 |" in text


def test_rows_keep_one_order_throughout(evaluation: Evaluation) -> None:
    for name in ("a-row", "gpt-5"):
        evaluation.add(name, [good(i) for i in range(FRAMES)])
    for row in ("a-row", "raw-none", "boxed-lora", "gpt-5"):
        took = usage.Usage(12, {}, 1200, 500, 0, None, 2.0, {})
        usage.write(evaluation.path / "predictions" / row, took)
    evaluation.run()
    order = ["raw-none", "gpt-5", "boxed-lora", "a-row"]
    found = evaluation.tables
    for name in ("table_1", "table_2"):
        rows = [row["row"] for row in found[name] if row["ours"]]
        assert rows == [*order, "trivial-never"], name
    assert list(found["usage"]) == list(found["breakdown"]) == list(found["calibration"]) == order
    headings = re.findall(r"<h3>([^<]+)</h3>", evaluation.page)
    assert headings[:8] == order * 2  # overlaps, then severities


def training_part(evaluation: Evaluation) -> None:
    """Four training frames: the commonest accident is a severe one."""
    samples = []
    for i, accidents in enumerate(
        ([], [], [Accident(box(1), "severe")], [Accident(box(0), "severe")])
    ):
        turns = [{"content": "<image>"}, {"content": dump(target(accidents))}]
        about = {"image_id": f"t{i}", "system": "", "messages": turns, "images": [""]}
        samples.append(about | {"frame": [100, 80], "original": [100, 80]})
    (evaluation.instructions / "boxed_train.json").write_text(json.dumps(samples), "utf-8")


def gate_boxes(evaluation: Evaluation, found: Callable[[int], Sequence[Detection]]) -> None:
    """The boxed test frames, at half the size, with what the gate finds in them."""
    samples = []
    for i in range(FRAMES):
        prompt = task_prompt(Size(50, 40), found(i))
        turns = [{"content": f"<image>{prompt}"}]
        samples.append({"image_id": f"f{i}", "frame": [50, 40], "messages": turns})
    (evaluation.instructions / "boxed_test.json").write_text(json.dumps(samples), "utf-8")


def test_a_row_that_is_no_better_than_the_gate_alone_is_marked_in_every_format(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    training_part(evaluation)
    gate_boxes(evaluation, lambda i: [Detection(box(i), severity(i), 0.9)])
    evaluation.add("raw-none", [dump(target([]))] * FRAMES)
    evaluation.run()
    found = evaluation.tables
    never, commonest, gate = (row["ours"] for row in found["table_1"][-3:])
    assert (never["count_em"]["value"], gate["count_em"]["value"]) == (0, 1)
    assert (commonest["count_em"]["value"], commonest["sev_acc"]["value"]) == (1, 0.5)
    # As good as the gate alone, which is right everywhere; its boxes are the nearest pixels.
    assert "sev_f1" in row_of(found, "table_1", "boxed-lora")["marks"]
    (note,) = [note for note in found["notes"] if note.startswith("boxed-lora is no better")]
    assert "; than the gate alone in SevAcc (0.00% to 0.00%), SevF1 (0.00% to 0.00%)" in note
    told = {(c["row"], c["against"]): c["sentence"] for c in found["comparisons"]}
    assert "is better in Count EM†" in told["boxed-lora", "raw-none"]
    assert grids.comparisons(found).rows[0][2] == "better† (+100.0)"
    assert main(["--show", str(evaluation.out)]) == 0
    shown = {"terminal": capsys.readouterr().out}
    for suffix in ("md", "csv", "tex", "html"):
        shown[suffix] = (evaluation.out / f"tables.{suffix}").read_text("utf-8")
    shown["report"] = evaluation.page
    for name, text in shown.items():
        assert ("\\dagger" if name == "tex" else "†") in text, name
        assert ("trivial-gate" if name == "csv" else "The gate alone") in text, name


def test_only_figures_that_a_constant_answer_reaches_too_are_marked(evaluation: Evaluation) -> None:
    training_part(evaluation)
    gate_boxes(evaluation, lambda i: [Detection(box(i + 30), "severe", 0.9)] if i % 3 else [])
    evaluation.run()
    marks = row_of(evaluation.tables, "table_1", "boxed-lora")["marks"]
    assert marks == ["count_em", "count_mae", "recall_50"]  # every frame has one accident there


def test_the_note_on_the_mark_names_the_trivial_rows_that_there_are(evaluation: Evaluation) -> None:
    evaluation.run()
    (note,) = [note for note in evaluation.tables["notes"] if note.startswith("†")]
    assert "needs no MLLM (Never an alert): " in note


def test_boxes_of_the_labels_are_no_gate(evaluation: Evaluation) -> None:
    gate_boxes(evaluation, lambda i: [Detection(box(i), severity(i), 1.0)])
    assert "gate" in trivial.answers(evaluation.instructions, [], "test")
    of_labels = evaluation.path / "of-labels"
    with Stage(of_labels, kind="instructions", inputs={}, config={}) as made:
        shutil.copytree(evaluation.instructions, made, dirs_exist_ok=True)
    assert list(trivial.answers(of_labels, [], "test")) == ["never"]


@pytest.mark.slow
def test_the_report_can_be_read_on_a_phone(evaluation: Evaluation) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    evaluation.run("--transmission", str(transmission(evaluation.path)))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto((evaluation.out / "report.html").as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        smallest = page.evaluate(SMALLEST_TEXT)
        browser.close()
    assert width == 390
    assert smallest >= 11


CHROMIUM = Path("/usr/bin/chromium")
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()))
    .map(e => parseFloat(getComputedStyle(e).fontSize)
              * (e.getScreenCTM ? e.getScreenCTM().a : 1)))"""
"""Pixels of the page's smallest text, as it is shown."""


def transmission(path: Path) -> Path:
    """A Table 3 of two rows, as `eval.transmission` writes it."""
    figures = {m: {"mean": 0.0525, "std": 0.0002} for m in grids.COLUMNS_3}
    paper = {"w_alarm": 0.0531, "vtr_05": 98.33, "vtr_1": 99.17, "avg_visual_delay": 0.1081}
    row = {"block": "B. burst, 0.25x", "method": "DAT", **figures, "paper": paper}
    json_only = {**row, "method": "JSON-Only", "avg_visual_delay": None}
    json_only["paper"] = {**paper, "avg_visual_delay": None}
    folder = path / "transmission"
    folder.mkdir()
    (folder / "table3.json").write_text(json.dumps([row, json_only]), "utf-8")
    return folder


def test_table_3_is_taken_in_when_it_is_there(evaluation: Evaluation) -> None:
    evaluation.run("--transmission", str(transmission(evaluation.path)))
    assert evaluation.tables["table_3"][0]["method"] == "DAT"
    text = (evaluation.out / "tables.md").read_text("utf-8")
    assert "| DAT | B. burst, 0.25x | ours | 0.0525 ± 0.0002 |" in text
    assert any(note.startswith("Table 3: calibration") for note in evaluation.tables["notes"])


def test_a_missing_table_3_is_named(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluation.run("--transmission", str(evaluation.path)) == 1
    assert "table3.json" in capsys.readouterr().err


def test_without_rows_the_command_says_what_to_run(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([
        *("--instructions", str(evaluation.instructions)),
        *("--predictions", str(evaluation.instructions)),
        *("--out", str(evaluation.out)),
    ]) == 1  # fmt: skip
    assert "run eval.predict first" in capsys.readouterr().err
    assert not evaluation.out.exists()


def test_answers_to_other_instructions_are_refused(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    old = evaluation.path / "old"
    old.mkdir()
    (old / "truth.jsonl").write_text("another")
    row = evaluation.path / "predictions" / "boxed-lora"
    text = (row / "predictions.jsonl").read_text("utf-8")
    (row / "predictions.jsonl").unlink()
    row.rmdir()
    with Stage(row, kind="predictions", inputs={"instructions": old}, config={}) as folder:
        (folder / "predictions.jsonl").write_text(text, "utf-8")
    assert evaluation.run() == 1
    assert "answers other instructions" in capsys.readouterr().err


def test_faulty_answers_leave_no_output(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.add("boxed-none", [good(0)] * (FRAMES + 1))
    assert evaluation.run() == 1
    assert "boxed-none/predictions.jsonl:13: image 'f12' is not in the truth" in (
        capsys.readouterr().err
    )
    assert not evaluation.out.exists()
    assert not evaluation.out.with_name("eval.partial").exists()


def test_frames_that_the_gate_would_drop_are_counted(evaluation: Evaluation) -> None:
    samples = [
        {
            "image_id": f"f{i}",
            "frame": [28, 28],
            "messages": [{"content": "<image>" + task_prompt(Size(28, 28), () if i < 3 else None)}],
        }
        for i in range(FRAMES)
    ]
    (evaluation.instructions / "boxed_test.json").write_text(json.dumps(samples), "utf-8")
    evaluation.run()
    notes = " ".join(evaluation.tables["notes"])
    assert "finds nothing in 3 of 12 frames, 3 of them with accidents" in notes


class Elements(html.parser.HTMLParser):
    """The elements of a page, their attributes, and whether all are closed."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_well_formed_and_loads_nothing(evaluation: Evaluation) -> None:
    evaluation.run("--transmission", str(transmission(evaluation.path)))
    elements = Elements(evaluation.page)
    assert elements.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in elements.found}
    links = [a for _, attrs in elements.found for k, a in attrs.items() if k in ("src", "href")]
    assert links
    assert all(a is not None and a.startswith("data:image/jpeg;base64,") for a in links)
    assert "http" not in re.sub("http-equiv|http://evil.example", "", evaluation.page)


def test_an_offending_text_is_shown_as_text(evaluation: Evaluation) -> None:
    evaluation.run()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in evaluation.page
    assert "unknown key" in evaluation.page


def test_the_guard_would_notice_an_element_from_an_answer() -> None:
    assert "script" in {tag for tag, _ in Elements(f"<pre>{EVIL}").found}


def test_the_report_lists_what_was_missing_and_who_failed(evaluation: Evaluation) -> None:
    evaluation.run()
    assert "raw-none: 1 of 12 answers: f1" in evaluation.page
    assert "boxed-lora: none." in evaluation.page


def test_a_lone_surrogate_in_an_answer_does_not_stop_the_report(evaluation: Evaluation) -> None:
    evaluation.add("raw-none", ['{"\ud800": 1}'] * FRAMES)
    assert evaluation.run() == 0
    assert r"\ud800" in evaluation.page


def test_a_frame_without_picture_and_an_id_that_climbs_out_do_no_harm(tmp_path: Path) -> None:
    evaluation = Evaluation(tmp_path)
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((9, 9, 3), np.uint8))
    size = {"width": SIZE.width, "height": SIZE.height}
    names = ["../../../../secret", "nothing"]
    truth = [{"image_id": n, **size, "accidents": []} for n in names]
    write_lines(evaluation.instructions / "truth.jsonl", truth)
    for row in ("raw-none", "boxed-lora"):
        evaluation.add(row, [])
    assert evaluation.run() == 0
    assert "data:image" not in evaluation.page
    assert 'class="none"' in evaluation.page


def test_without_any_true_box_the_tables_still_stand(evaluation: Evaluation) -> None:
    size = {"width": SIZE.width, "height": SIZE.height}
    truth = [{"image_id": f"f{i}", **size, "accidents": []} for i in range(FRAMES)]
    write_lines(evaluation.instructions / "truth.jsonl", truth)
    assert evaluation.run() == 0
    assert row_of(evaluation.tables, "table_1", "raw-none")["ours"]["recall_50"]["value"] is None
    assert "No true box." in evaluation.page
    assert terminal(evaluation.tables)


def test_breakdown_groups_true_boxes_by_severity_and_size(evaluation: Evaluation) -> None:
    evaluation.run()
    groups = {g["group"]: g for g in evaluation.tables["breakdown"]["boxed-lora"]}
    assert set(groups) == {"night", "dusk", "day", "moderate", "severe", "medium box"}
    assert groups["severe"] == {
        "group": "severe",
        "boxes": FRAMES // 2,
        "bbox_miou": 1.0,
        "recall_50": 1.0,
    }


def test_breakdown_groups_frames_by_light(evaluation: Evaluation) -> None:
    """The pictures' luma is 9 times their number; the first two answers failed."""
    evaluation.run()
    groups = {g["group"]: g for g in evaluation.tables["breakdown"]["raw-none"]}
    assert [groups[k]["frames"] for k in ("night", "dusk", "day")] == [7, 3, 2]
    assert groups["night"]["sev_acc"] == pytest.approx(5 / 7)
    assert groups["night"]["recall_50"] == pytest.approx(5 / 7)
    assert groups["day"]["sev_acc"] == 1
    assert "mean luma" in evaluation.page


def prepared(path: Path, split: str, twins: int, pairs: list[list[str]]) -> Path:
    """A prepared set that says how many test frames have a twin in train, and lists pairs."""
    leaks = {"frames_with_a_twin": {"test in train": {"exact": twins - 1, "near": 1}}}
    with Stage(path, kind="data", inputs={}, config={"twins": twins}) as folder:
        (folder / "report.json").write_text(json.dumps({"split": split, "leaks": leaks}))
        listed = [{"kind": "near", "frames": pair} for pair in pairs]
        (folder / "leaks.json").write_text(json.dumps(listed))
    return path


PAIRS = [
    ["train/a", "test/f0"],
    ["test/f1", "train/a"],
    ["val/b", "test/f2"],
    ["train/c", "val/d"],
    ["train/c", "test/f1"],
]


def test_frames_without_a_twin_are_scored_beside_all(evaluation: Evaluation) -> None:
    data = prepared(evaluation.path / "data", "published", 2, PAIRS)
    evaluation.run("--data", str(data))
    found = {(r["row"], r["frames"]): r["ours"] for r in evaluation.tables["by_split"]}
    assert found["raw-none", "published split"]["count_em"]["value"] == pytest.approx(10 / 12)
    clean = found["raw-none", "of these, without a twin"]
    assert (clean["n"], clean["missing"], clean["count_em"]["value"]) == (10, 0, 1.0)
    assert "2 of 12 test frames have a twin" in " ".join(evaluation.tables["notes"])
    assert "rendered scenes, published split" in evaluation.tables["measured_on"]
    assert "Table 1 by split" in evaluation.page
    assert "| raw-none | of these, without a twin | 10 |" in (
        evaluation.out / "tables.md"
    ).read_text("utf-8")


def test_another_split_stands_beside(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Evaluation(evaluation.path / "other")
    other.run("--data", str(prepared(other.path / "data", "leak-free", 1, PAIRS[:1])))
    data = prepared(evaluation.path / "data", "published", 2, PAIRS)
    evaluation.run("--data", str(data), "--beside", str(other.out))
    row = [r for r in evaluation.tables["by_split"] if r["row"] == "boxed-lora"]
    assert [r["frames"] for r in row] == [
        "published split",
        "of these, without a twin",
        "leak-free split, own training",
    ]
    capsys.readouterr()
    assert main(["--show", str(evaluation.out)]) == 0
    shown = capsys.readouterr().out
    assert "boxed-lora, leak-free split, own training" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_list_of_pairs_that_was_cut_scores_no_part(evaluation: Evaluation) -> None:
    data = prepared(evaluation.path / "data", "published", 3, PAIRS)
    evaluation.run("--data", str(data))
    assert {r["frames"] for r in evaluation.tables["by_split"]} == {"published split"}
    assert "too few pairs" in " ".join(evaluation.tables["notes"])


def test_a_set_without_leaks_says_so(evaluation: Evaluation) -> None:
    with Stage(evaluation.path / "data", kind="data", inputs={}, config={}) as folder:
        leaks = {"frames_with_a_twin": {"test in train": {"exact": 0}}}
        (folder / "report.json").write_text(json.dumps({"split": "leak-free", "leaks": leaks}))
        (folder / "leaks.json").write_text("[]")
    evaluation.run("--data", str(evaluation.path / "data"))
    assert "no test frame has a twin" in " ".join(evaluation.tables["notes"])
    assert len(evaluation.tables["by_split"]) == 2


def test_the_set_of_other_instructions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = Evaluation(tmp_path)
    data, other = (
        prepared(tmp_path / name, "published", n, PAIRS) for name, n in (("data", 2), ("other", 3))
    )
    truth = (evaluation.instructions / "truth.jsonl").read_text("utf-8")
    evaluation.instructions = tmp_path / "made"
    with Stage(
        evaluation.instructions, kind="instructions", inputs={"data": data}, config={}
    ) as folder:
        (folder / "truth.jsonl").write_text(truth)
    assert evaluation.run("--data", str(other)) == 1
    assert "was not made from" in capsys.readouterr().err
    assert evaluation.run("--data", str(data)) == 0


def test_beside_needs_the_name_of_both_splits(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Evaluation(evaluation.path / "other")
    other.run()
    data = prepared(evaluation.path / "data", "published", 2, PAIRS)
    assert evaluation.run("--beside", str(other.out)) == 1
    assert evaluation.run("--data", str(data), "--beside", str(other.out)) == 1
    told = capsys.readouterr().err
    assert "--beside needs --data" in told
    assert "does not say which split" in told


def test_what_the_answers_took_is_shown(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    took = usage.Usage(11, {"f1": "status 400: <b>"}, 1200, 500, 0, 0.0123, 2.0, {}, cut=3)
    usage.write(evaluation.path / "predictions" / "raw-none", took)
    evaluation.run()
    text = (evaluation.out / "tables.md").read_text("utf-8")
    assert "| raw-none | 11 | 1 | 3 | 1200 | 500 | 0.0123 | 4.00 |" in text
    assert "1 x status 400: &lt;b&gt;" in evaluation.page
    capsys.readouterr()
    main(["--show", str(evaluation.out)])
    shown = capsys.readouterr().out
    assert "ms per token" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_without_scores_the_tables_are_the_papers() -> None:
    found = assemble({}, "label")
    assert [row["row"] for row in found["table_1"]] == [
        "raw-none",
        "raw-lora",
        "gpt-5",
        "boxed-lora",
    ]
