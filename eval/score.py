"""Score one set of answers against the truth: the metrics of Tables 1 and 2, with intervals.

    python -m eval.score --truth truth.jsonl --predictions predictions.jsonl --out DIR \\
        [--require METRIC>=VALUE ...]

A VALUE may be `@scores.json`: the same metric in the scores of another adapter, such as the shipped
one, on the same frames.

`DIR/scores.json`: `n`, `missing`, and per metric `{"value", "low", "high"}`: the value and its 95 %
bootstrap interval, rates as fractions; all three are null where nothing defines the metric (boxes,
when the truth has none).
"""

import argparse
import json
import operator
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.errors import ConfigError, DataError, DatError, reports_errors
from dat_runtime.files import write_atomically

Scores = dict[str, Any]

_COMPARE = {">=": operator.ge, "<=": operator.le}


class RequirementError(DatError):
    """The answers are not as good as `--require` demands."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.score",
        description="Score answers against the truth: the metrics of Tables 1 and 2.",
    )
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
    requirements = [parse_requirement(text) for text in args.require]
    scores = score_files(args.truth, args.predictions)
    for requirement in requirements:
        _demand_same_frames(requirement, scores["n"])
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out / "scores.json", json.dumps(scores, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"--out {args.out}: cannot be written ({error.strerror})") from None
    print(table(scores), flush=True)
    if unmet := [reason for r in requirements if (reason := unmet_reason(scores, r))]:
        raise RequirementError("required, but not met: " + "; ".join(unmet))
    return 0


def score_files(truth: Path, predictions: Path) -> Scores:
    """The scores of a predictions file, as in `scores.json`.

    Raises:
        DataError: names the file and line of what is wrong in either.
    """
    from eval.understanding.metrics import measure
    from eval.understanding.records import read_predictions, read_truth

    frames = read_truth(truth)
    return scores_of(measure(frames, read_predictions(predictions, frames)))


def scores_of(measures: Any) -> Scores:
    """`scores.json` of an `eval.understanding.metrics.Measures`."""
    from eval.understanding.metrics import score

    return {
        "n": len(measures),
        "missing": int(measures.missing.sum()),
        **{name: found._asdict() for name, found in score(measures).items()},
    }


def table(scores: Scores) -> str:
    """The scores for the terminal."""
    lines = [f"{'metric':<12}{'value':>8}   95 % interval"]
    for name, found in scores.items():
        if isinstance(found, int):
            continue
        if found["value"] is None:
            lines.append(f"{name:<12}{'-':>8}   no true box")
        else:
            lines.append(
                f"{name:<12}{found['value']:>8.4f}   {found['low']:.4f} to {found['high']:.4f}"
            )
    missing = f", {scores['missing']} without an answer" if scores["missing"] else ""
    return "\n".join([*lines, f"n = {scores['n']} frames{missing}"])


class Requirement(NamedTuple):
    """A metric, `>=` or `<=`, and the bound; `source` and its frames if it is another's score."""

    metric: str
    comparison: str
    bound: float
    source: str = ""
    frames: int = 0


def parse_requirement(text: str) -> Requirement:
    """`"sev_f1>=0.9"`, or `"sev_f1>=@shipped/scores.json"`: not below the shipped adapter's.

    Raises:
        ConfigError: it is not of this form, or there is no such metric.
        DataError: the other scores cannot be read, or leave the metric undefined.
    """
    from eval.understanding.metrics import METRICS

    known = ("n", "missing", *METRICS)
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=)\s*(\d+(?:\.\d*)?|\.\d+|@.+?)\s*", text)
    if match is None or match[1] not in known:
        raise ConfigError(
            f"--require {text!r}: expected METRIC>=VALUE or METRIC<=VALUE, with one of "
            + ", ".join(known)
        )
    metric, comparison, value = match.groups()
    if not value.startswith("@"):
        return Requirement(metric, comparison, float(value))
    path = Path(value[1:])
    try:
        other = json.loads(path.read_text("utf-8"))
        bound = float(_value(other[metric]))
        return Requirement(metric, comparison, bound, str(path), int(other["n"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"has no {metric} to compare with ({error!r})", path) from None


def _demand_same_frames(requirement: Requirement, n: int) -> None:
    """Scores on other frames say nothing about which adapter is better."""
    if requirement.source and requirement.frames != n:
        raise ConfigError(
            f"{requirement.source} scores {requirement.frames} frames, these are {n}: "
            "score both adapters on the same truth"
        )


def _value(found: Any) -> Any:
    return found if isinstance(found, int) else found["value"]


def unmet_reason(scores: Mapping[str, Any], requirement: Requirement) -> str | None:
    """Why a requirement is not met, in words; `None` when it is."""
    name, comparison, bound, source, _ = requirement
    value = _value(scores[name])
    if value is None:
        return f"{name} is undefined (no true box)"
    if _COMPARE[comparison](value, bound):
        return None
    of = f" of {source}" if source else ""
    return f"{name} is {value:.6g}, not {comparison} {bound:.6g}{of}"


if __name__ == "__main__":
    raise SystemExit(main())
