"""Score one set of answers against the truth: the metrics of Tables 1 and 2, with intervals.

    python -m eval.score --truth truth.jsonl --predictions predictions.jsonl --out DIR \\
        [--require METRIC>=VALUE ...]

A VALUE may be `@FILE`: the same metric in another adapter's scores.json, such as that of the
shipped one, on the same frames.

`DIR/scores.json` holds `n`, `missing`, and per metric `{"value", "low", "high"}`: the value and its
95 % bootstrap interval, rates as fractions. All three are null where the metric is undefined: the
box metrics, when the truth has no box.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("eval.score", __doc__)
    parser.add_argument("--truth", type=Path, required=True, help="truth.jsonl")
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json")
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="METRIC>=VALUE",
        help="fail unless these hold, e.g. parse>=1.0 count_mae<=0.1 sev_f1>=@shipped/scores.json "
        "(quote them for the shell)",
    )
    args = parser.parse_args(argv)
    from eval.understanding import requirements
    from eval.understanding.scores import score_files, table

    required = [requirements.parse_requirement(text) for text in args.require]
    scores = score_files(args.truth, args.predictions)
    for requirement in required:
        requirements.demand_same_frames(requirement, scores["n"])
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "scores.json", scores)
    except OSError as error:
        raise ConfigError(f"--out {args.out}: cannot be written ({error.strerror})") from None
    print(table(scores), flush=True)
    reasons = [requirements.unmet_reason(scores, requirement) for requirement in required]
    unmet = [reason for reason in reasons if reason]
    if unmet:
        raise requirements.RequirementError("required, but not met: " + "; ".join(unmet))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
