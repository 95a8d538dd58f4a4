"""A person makes an adapter the global one, after it was scored: nothing does it by itself.

    python -m eval.promote --adapter OUT/lora-round-3 --predictions OUT/predictions/round-3 \\
        --truth OUT/instructions/truth.jsonl --require "sev_f1>=@OUT/scores-shipped/scores.json" \\
        --by "A. Name" --out OUT/lora-promoted-3

The predictions have to be those of this adapter (`eval.predict --adapter`). They are scored here as
`eval.score --require` does it, and a requirement that is not met promotes nothing. The new folder
holds the adapter and promotion.json: who, when, what was required, the scores. It is what
`export.bundle` takes, and what the next round starts from.
"""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.adapter import read_adapter
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.stage import Stage

RECORD = "promotion.json"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("eval.promote", __doc__)
    parser.add_argument("--adapter", type=Path, required=True, help="made by train.aggregate")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of eval.predict")
    parser.add_argument("--truth", type=Path, required=True, help="truth.jsonl")
    parser.add_argument(
        "--require", nargs="+", required=True, metavar="METRIC>=VALUE", help="as of eval.score"
    )
    parser.add_argument("--by", required=True, help="name of the person who decides")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args(argv)
    if not args.by.strip():
        raise ConfigError("--by is empty: a person promotes, by name")
    verified = manifest.verify(args.adapter, "lora")
    read_adapter(args.adapter)
    _demand_predictions_of(args.adapter, args.predictions)
    stage = Stage(
        args.out,
        kind="lora",
        inputs={
            "adapter": args.adapter,
            "predictions": args.predictions,
            "truth": args.truth,
        },
        config={**verified.config, "promotion": {"by": args.by, "require": args.require}},
        code=[__file__],
    )
    if stage.up_to_date():
        return 0
    from eval.understanding import requirements
    from eval.understanding.scores import score_files, table

    required = [requirements.parse_requirement(text) for text in args.require]
    with stage as folder:
        scores = score_files(args.truth, args.predictions / "predictions.jsonl")
        for requirement in required:
            requirements.demand_same_frames(requirement, scores["n"])
        print(table(scores), flush=True)
        reasons = [requirements.unmet_reason(scores, requirement) for requirement in required]
        unmet = [reason for reason in reasons if reason]
        if unmet:
            raise requirements.RequirementError("not promoted: " + "; ".join(unmet))
        for name in verified.outputs:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(args.adapter / name, folder / name)
        record = {
            "by": args.by,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "adapter": manifest.digest(args.adapter),
            "require": [requirement._asdict() for requirement in required],
            "scores": scores,
        }
        write_json(folder / RECORD, record)
    print(f"[{args.out.name}] promoted by {args.by}", flush=True)
    return 0


def _demand_predictions_of(adapter: Path, predictions: Path) -> None:
    """Refuse the answers of another adapter: they say nothing about this one.

    Raises:
        ConfigError: the predictions were not made with this adapter.
    """
    made = manifest.verify(predictions, "predictions")
    if made.inputs.get("adapter") != manifest.digest(adapter):
        raise ConfigError(
            f"{predictions} was not made with {adapter}: run eval.predict --adapter {adapter}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
