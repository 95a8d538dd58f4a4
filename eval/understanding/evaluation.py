"""An evaluation: the rows of answers to one set of instructions, scored, compared and shown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, ManifestError
from dat_runtime.files import read_json, write_atomically, write_json
from eval.answers import usage
from eval.understanding import breakdown, formats, page, priorities, remarks, splits, trivial
from eval.understanding.assembly import assemble, in_order
from eval.understanding.grids import Tables
from eval.understanding.metrics import measure
from eval.understanding.records import read_predictions, read_truth
from eval.understanding.scores import scores_of

MISSING = "run the stage that makes it"
FILE = "tables.json"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation is made from.

    Attributes:
        instructions: with the truth and the pictures.
        rows: the folder of each row of answers.
        label: what the figures were measured on (`assembly.measured_on`).
        tiny: the models are not of the paper's size.
        table_3: the rows of Table 3, if there are any.
        split: that of the prepared set, if `--data` named one.
        beside: tables.json of an evaluation on another split.
    """

    instructions: Path
    rows: Sequence[Path]
    label: str
    tiny: bool
    table_3: Any
    split: splits.Split | None
    beside: Mapping[str, Any] | None


def rows_of(predictions: Path, instructions: Path) -> list[Path]:
    """The folders of rows in a folder, without those that a stage has not finished.

    Raises:
        ConfigError: there is none.
        ManifestError: one was changed, or answers other instructions.
    """
    folders = []
    for file in predictions.glob("*/predictions.jsonl"):
        if file.parent.suffix not in (".partial", ".old"):
            folders.append(file.parent)
    if not folders:
        raise ConfigError(f"{predictions} has no <row>/predictions.jsonl: run eval.predict first")
    folders.sort()
    for folder in folders:
        _verify_row(folder, instructions)
    return folders


def _verify_row(folder: Path, instructions: Path) -> None:
    """Refuse answers to other instructions; a row without manifest comes from elsewhere."""
    if not (folder / manifest.NAME).is_file():
        return
    made_from = manifest.verify(folder, "predictions").inputs.get("instructions")
    if made_from != manifest.digest(instructions):
        raise ManifestError(
            f"{folder} answers other instructions than {instructions}: run eval.predict again"
        )


def read_tables(folder: Path) -> Tables:
    """The tables of an evaluation.

    Raises:
        DataError: they are missing, not JSON, or of a version that wrote something else.
    """
    tables: Tables = read_json(folder / FILE, missing=MISSING)
    try:
        current = all("marks" in row for row in tables["table_1"])
    except (KeyError, TypeError):
        current = False
    if not current:
        raise DataError("is not what eval.tables writes now: run it again", folder / FILE)
    return tables


def read_other_split(folder: Path) -> Tables:
    """The tables of an evaluation on another split.

    Raises:
        ManifestError: the folder was changed.
        ConfigError: it does not state its split.
    """
    manifest.verify(folder, "eval")
    tables = read_tables(folder)
    if not tables.get("split"):
        raise ConfigError(f"{folder} does not say which split it is on: make it with --data")
    return tables


def write(folder: Path, given: Evaluation) -> None:
    """Fill the output folder: scores per row, the tables in five formats, the report.

    Raises:
        DataError: the truth or a row's answers are faulty.
    """
    frames = read_truth(given.instructions / "truth.jsonl")
    by_name = {row.name: row for row in given.rows}
    names = in_order(by_name)
    rows = []
    scores = {}
    for name in names:
        texts = read_predictions(by_name[name] / "predictions.jsonl", frames)
        rows.append(page.Row(name, frames, texts, measure(frames, texts)))
        scores[name] = scores_of(rows[-1].measures)
        (folder / name).mkdir()
        write_json(folder / name / "scores.json", scores[name])
    without_mllm = {}
    for name, answers in trivial.answers(given.instructions, frames, "test").items():
        without_mllm[name] = measure(frames, answers)
    marks = trivial.marks({row.name: row.measures for row in rows}, without_mllm)
    tables = assemble(
        scores,
        given.label,
        given.table_3,
        tiny=given.tiny,
        trivial={name: scores_of(measures) for name, measures in without_mllm.items()},
        marks=marks,
    )
    _add_details(tables, rows, scores, marks, given)
    tables["usage"] = {}
    for name in names:
        if (by_name[name] / usage.FILE).is_file():  # a row from elsewhere may have none
            tables["usage"][name] = asdict(usage.read(by_name[name]))
    write_json(folder / FILE, tables)
    for suffix, form in formats.FORMATS.items():
        write_atomically(folder / f"tables.{suffix}", form(tables))
    text = page.page(tables, rows, given.instructions)
    # An answer may hold half a surrogate pair, for which UTF-8 has no bytes.
    write_atomically(folder / "report.html", text.encode("utf-8", "backslashreplace"))


def _add_details(
    tables: Tables,
    rows: Sequence[page.Row],
    scores: Mapping[str, Any],
    marks: Mapping[str, trivial.Marks],
    given: Evaluation,
) -> None:
    """Add what goes beyond scores: splits, comparisons, parts of the frames, priorities."""
    frames = rows[0].frames
    measures = {row.name: row.measures for row in rows}
    tables["split"] = None
    tables["by_split"] = []
    if given.split:
        tables["split"] = given.split.name
        tables["by_split"] = splits.by_split(frames, measures, scores, given.split, given.beside)
        tables["notes"] += splits.notes(given.split, len(frames))
    tables["notes"] += remarks.gate_notes(frames, given.instructions / "boxed_test.json")
    tables["comparisons"] = remarks.compare(measures, marks)
    luma = breakdown.luma_of(frames, given.instructions)
    tables["breakdown"] = {}
    tables["calibration"] = {}
    for row in rows:
        tables["breakdown"][row.name] = breakdown.breakdown(frames, row.measures, luma)
        true, stated = priorities.priorities(frames, row.texts)
        tables["calibration"][row.name] = priorities.calibration(true, stated)
