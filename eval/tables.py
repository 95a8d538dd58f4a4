"""Tables 1 and 2, ours beside the paper's, and Table 3 when it was made; then the report.

    python -m eval.tables --instructions DIR --predictions DIR --out DIR \\
        [--data DIR] [--beside DIR] [--transmission DIR] [--profile smoke|paper] [--source NAME]
    python -m eval.tables --show DIR

`--predictions` holds one folder per row, with `predictions.jsonl`; the paper's rows are `raw-none`,
`raw-lora`, `boxed-lora` and `gpt-5`, any other name becomes a row of its own, such as
`boxed-lora-constrained`. With `--data` the scores state the split, and are given again without the
test frames that have a twin in training; with `--beside` those of another evaluation stand beside
them, such as one on the leak-free split. The output folder holds `tables.{json,md,csv,tex,html}`,
`page.html` and `<row>/scores.json`.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, ManifestError, reports_errors
from dat_runtime.stage import Stage
from eval.understanding import splits

Tables = dict[str, Any]

LABELS = {
    "raw-none": ("Qwen2.5-VL-7B-Instruct", "Raw image", "None"),
    "raw-lora": ("Qwen2.5-VL-7B-Instruct", "Raw image", "LoRA"),
    "gpt-5": ("GPT-5", "Boxed image", "None"),
    "boxed-none": ("Qwen2.5-VL-7B-Instruct", "Boxed image", "None"),
    "boxed-lora": ("Ours", "Boxed image", "LoRA"),
}
CONSTRAINED = "-constrained"
"""Ends the name of a row whose decoding the schema constrained."""


@dataclass(frozen=True)
class Folders:
    """What an evaluation is made from; the last three may be `None`."""

    instructions: Path
    predictions: Path
    transmission: Path | None
    data: Path | None
    beside: Path | None


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.show is not None:
        from eval.understanding.formats import terminal

        print(terminal(_read_json(args.show / "tables.json")), flush=True)
        return 0
    folders = Folders(
        args.instructions, args.predictions, args.transmission, args.data, args.beside
    )
    make(folders, args.out, args.profile, args.source)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--show", type=Path, metavar="DIR", help="print the tables made before")
    parser.add_argument("--instructions", type=Path, help="folder with truth.jsonl and images/")
    parser.add_argument("--predictions", type=Path, help="folder with one folder per row")
    parser.add_argument("--data", type=Path, help="prepared set of the instructions: its split")
    parser.add_argument("--beside", type=Path, help="evaluation on another split, with its --data")
    parser.add_argument("--transmission", type=Path, help="folder with table3.json, if made")
    parser.add_argument("--profile", choices=("smoke", "paper"), default="smoke")
    parser.add_argument("--source", default="", help="name of the data sets; rendered scenes if ''")
    parser.add_argument("--out", type=Path, help="output folder")
    args = parser.parse_args(argv)
    needed = ("instructions", "predictions", "out")
    if args.show is None and (lacking := [k for k in needed if getattr(args, k) is None]):
        parser.error("without --show these are needed: " + ", ".join(f"--{k}" for k in lacking))
    if args.beside and not args.data:
        raise ConfigError("--beside needs --data: both splits must have a name")
    return args


def measured_on(profile: str, source: str, split: str = "") -> str:
    """What our figures stand for, in one sentence that goes with every table."""
    frames = f"frames of {source!r}" if source else "rendered scenes"
    if split:
        frames += f", {split} split"
    if profile == "paper" and source:
        return f"ours: {frames}, models of the paper's size (profile paper)"
    model = "a tiny Qwen2.5-VL" if profile == "smoke" else "models of the paper's size"
    return (
        f"ours: {frames}, {model} (profile {profile}). This shows that the pipeline works; it is "
        "not the paper's accuracy and is not comparable with it"
    )


def make(given: Folders, out: Path, profile: str, source: str) -> None:
    """Write the output folder: scores per row, the tables in five formats, the report.

    Raises:
        DatError: a folder lacks what it should hold, or a file in it is faulty.
    """
    found = sorted(f.parent for f in given.predictions.glob("*/predictions.jsonl"))
    folders = [f for f in found if f.suffix not in (".partial", ".old")]  # cut-off runs of a stage
    if not folders:
        raise ConfigError(
            f"{given.predictions} has no <row>/predictions.jsonl: run eval.predict first"
        )
    for folder in folders:
        _verify_row(folder, given.instructions)
    split = splits.read_split(given.data, given.instructions) if given.data else None
    beside = _beside(given.beside) if given.beside else None
    table_3 = given.transmission / "table3.json" if given.transmission is not None else None
    inputs = {"instructions": given.instructions, **{f"row {f.name}": f for f in folders}}
    named = {"table3": table_3, "data": given.data, "beside": given.beside}
    inputs |= {name: path for name, path in named.items() if path is not None}
    code = [__file__, Path(__file__).with_name("paper.json")]
    label = measured_on(profile, source, split.name if split else "")
    stage = Stage(out, kind="eval", inputs=inputs, config={"measured_on": label}, code=code)
    if stage.up_to_date():
        return
    with stage as folder:
        third = _read_json(table_3) if table_3 else None
        write(folder, given.instructions, folders, label, third, split, beside)


def write(
    folder: Path,
    instructions: Path,
    answers: Sequence[Path],
    label: str,
    table_3: Any,
    split: splits.Split | None,
    beside: Mapping[str, Any] | None,
) -> None:
    """Fill the output folder from the rows' folders."""
    from eval.answers import usage
    from eval.score import scores_of
    from eval.understanding import breakdown, formats, page, remarks
    from eval.understanding.metrics import measure
    from eval.understanding.priorities import calibration, priorities
    from eval.understanding.records import read_predictions, read_truth

    frames = read_truth(instructions / "truth.jsonl")
    texts = {f.name: read_predictions(f / "predictions.jsonl", frames) for f in answers}
    rows = {name: measure(frames, texts[name]) for name in _in_order(texts)}
    scores = {name: scores_of(m) for name, m in rows.items()}
    for name, found in scores.items():
        (folder / name).mkdir()
        _write_json(folder / name / "scores.json", found)
    tables = assemble(scores, label, table_3)
    tables["split"] = split.name if split else None
    tables["by_split"] = splits.by_split(frames, rows, scores, split, beside) if split else []
    tables["notes"] += splits.notes(split, len(frames)) if split else []
    tables["notes"] += remarks.gate_notes(frames, instructions / "boxed_test.json")
    tables["comparisons"] = remarks.compare(rows)
    luma = breakdown.luma_of(frames, instructions)
    tables["breakdown"] = {n: breakdown.breakdown(frames, m, luma) for n, m in rows.items()}
    tables["calibration"] = {n: calibration(*priorities(frames, texts[n])) for n in rows}
    tables["usage"] = {f.name: usage.read(f) for f in answers if (f / usage.FILE).is_file()}
    _write_json(folder / "tables.json", tables)
    for suffix, form in formats.FORMATS.items():
        (folder / f"tables.{suffix}").write_text(form(tables), "utf-8")
    details = [page.Row(name, frames, texts[name], m) for name, m in rows.items()]
    page = page.page(tables, details, instructions)
    (folder / "report.html").write_text(page, "utf-8", errors="backslashreplace")


def _beside(folder: Path) -> Mapping[str, Any]:
    """The tables of an evaluation on another split."""
    manifest.verify(folder, "eval")
    tables: Tables = _read_json(folder / "tables.json")
    if not tables.get("split"):
        raise ConfigError(f"{folder} does not say which split it is on: make it with --data")
    return tables


def _verify_row(folder: Path, instructions: Path) -> None:
    """Refuse answers to other instructions; a row without manifest comes from elsewhere."""
    if not (folder / manifest.NAME).is_file():
        return
    made_from = manifest.verify(folder, "predictions").inputs.get("instructions")
    if made_from != manifest.digest(instructions):
        raise ManifestError(
            f"{folder} answers other instructions than {instructions}: run eval.predict again"
        )


def assemble(scores: Mapping[str, Any], label: str, table_3: Any = None) -> Tables:
    """`tables.json`: per table the rows in the paper's order, then rows the paper does not have."""
    from eval.understanding import remarks

    paper = _read_json(Path(__file__).with_name("paper.json"))
    names = dict.fromkeys([*LABELS, *scores])
    tables: Tables = {"measured_on": label}
    for table in ("table_1", "table_2"):
        figures = {row["row"]: row for row in paper[table]}
        tables[table] = []
        for name in names:
            model, image, tuning = _label(name)
            ours, theirs = scores.get(name), figures.get(name)
            if ours is None and theirs is None:
                continue
            row = {"row": name, "model": model, "input": image, "tuning": tuning}
            note = "no endpoint was given" if name == "gpt-5" else "not run"
            tables[table].append(
                {**row, "paper": theirs, "ours": ours, "note": "" if ours else note}
            )
    tables["table_3"] = table_3
    tables["notes"] = remarks.notes(scores)
    if table_3:
        tables["notes"].append(
            "Table 3: calibration, not evidence: its setting was fitted to the paper's Table 3. "
            "Evidence is what holds on perturbed settings and other traces (eval.transmission)."
        )
    return tables


def _label(name: str) -> tuple[str, str, str]:
    """MLLM, input and tuning of a row; the decoding too where the schema constrained it."""
    plain = name.removesuffix(CONSTRAINED)
    model, image, tuning = LABELS.get(plain, (plain, "", ""))
    if plain != name:
        tuning = f"{tuning}, constrained decoding".removeprefix(", ")
    return model, image, tuning


def _in_order(names: Iterable[str]) -> list[str]:
    """The paper's rows last, in its order, so that the tuned one ends the list."""
    own = list(names)
    return [*(n for n in own if n not in LABELS), *(n for n in LABELS if n in own)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError("is missing: run the stage that makes it", path) from None
    except ValueError as error:
        raise DataError(f"is not JSON ({error})", path) from None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
