"""A row on the ACCIDENT benchmark, by the benchmark's own score.

    python -m data.prep.accident_clips --source ACCIDENT --gate OUT/gate --out OUT/accident-clips
    python -m eval.predict --instructions OUT/accident-clips --inputs boxed --model BASE \\
        --adapter OUT/lora-boxed --out OUT/accident-answers/boxed-lora
    python -m eval.accident_clips --clips OUT/accident-clips \\
        --predictions OUT/accident-answers/boxed-lora --out OUT/accident-score

The first frame of a clip whose answer tells of an accident says when and where it was. Of a clip
without one the benchmark's naive claim is made (half its time, the middle of the frame), as it
scores no list with gaps. Answers name no type of collision: it is `single` throughout, so C is no
merit of the row's. Writes scores.json (temporal, spatial, type_accuracy and unified_score of the
zero-shot benchmark, each with its 95 % bootstrap interval, beside those of the naive claims alone)
and submission.csv, in the form that the benchmark takes. docs/evaluation.md says what of this is
not verified.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.errors import ManifestError, reports_errors
from dat_runtime.files import read_json, write_json
from dat_runtime.stage import Stage
from eval.answers.asks import read_asks
from eval.outside.accident_score import score
from eval.outside.clip_answers import naive, read_answers, read_clips, submission, told


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("eval.accident_clips", __doc__)
    add = parser.add_argument
    add("--clips", type=Path, required=True, help="folder of data.prep.accident_clips")
    add("--predictions", type=Path, required=True, help="folder of eval.predict about it")
    add("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    stage = Stage(
        args.out,
        kind="accident-score",
        inputs={"instructions": args.clips, "predictions": args.predictions},
        config={},
        code=[__file__],
    )
    if not stage.up_to_date():
        _demand_same(args.predictions, args.clips)
        with stage as folder:
            _write(folder, args.clips, args.predictions)
    print(_table(read_json(args.out / "scores.json")), flush=True)
    return 0


def _demand_same(predictions: Path, clips: Path) -> None:
    """Refuse answers to other questions."""
    answered = manifest.verify(predictions, "predictions").inputs.get("instructions")
    if answered != manifest.digest(clips):
        raise ManifestError(
            f"{predictions} answers other instructions than {clips}: run eval.predict again"
        )


def _write(folder: Path, instructions: Path, predictions: Path) -> None:
    clips, asks = read_clips(instructions), read_asks(instructions, "boxed")
    answers = read_answers(predictions / "predictions.jsonl", asks)
    row = told(clips, answers, {ask.id: ask.original for ask in asks})
    labels = [clip.label for clip in clips]
    scores = {
        "benchmark": "zero-shot",
        "clips": len(clips),
        "alarms": row.alarms,
        "questions": row.questions,
        "unanswered": row.unanswered,
        "row": score(row.claims, labels),
        "naive": score([naive(clip) for clip in clips], labels),
    }
    write_json(folder / "scores.json", scores)
    (folder / "submission.csv").write_text(submission(clips, row.claims), "utf-8")


def _table(scores: dict[str, Any]) -> str:
    """The scores for the terminal."""
    lines = [
        f"ACCIDENT, {scores['benchmark']}: {scores['clips']:,} clips, {scores['alarms']:,} with an "
        f"alarm; {scores['unanswered']:,} of {scores['questions']:,} frames without an answer",
        f"{'':<8}{'T':>8}{'S':>8}{'C':>8}{'ACC^S':>8}   95 % interval of ACC^S",
    ]
    for name in ("row", "naive"):
        found = scores[name]
        unified = found["unified_score"]
        columns = (found["temporal"]["1"], found["spatial"]["1"], found["type_accuracy"], unified)
        figures = "".join(f"{entry['value']:>8.4f}" for entry in columns)
        lines.append(f"{name:<8}{figures}   {unified['low']:.4f} to {unified['high']:.4f}")
    lines.append("C is that of `single`, said of every clip: the answers name no type.")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
