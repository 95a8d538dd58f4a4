"""Answers by the way that a picture comes: learned bits, floats, JPEG, WebP, boxes alone.

    python -m eval.codes --instructions OUT/instructions --data OUT/data --base BASE \\
        --adapter OUT/lora-boxed --codec OUT/codec --out OUT/codes

Every way has the same prompt, decoding and scoring as Tables 1-2. Writes accuracy.json: `rows` with
the mean and the largest bytes of a picture, merger_error, the error of what the language model
sees, and Count EM, SevF1 and BBox mIoU with 95 % bootstrap intervals; `picture`, whether answers
depend on the picture at all; `goal`, the code of --goal-bytes against every JPEG and WebP up to
8 kB; `milliseconds` of the parts on this machine. The answers lie in answers/. A run that was cut
off goes on after its last whole row.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.command import add_restart, command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.stage import Stage
from dat_runtime.truth import read_split
from eval.answers.asks import Ask, longest_answer, read_asks
from eval.answers.codes import demand_same
from eval.answers.model import Loaded, demand_base, demand_there, encode, load
from eval.offloading import ways
from eval.offloading.accuracy import goal, kept_answers, measures_of, picture_matters, row
from eval.offloading.fidelity import merger_error
from eval.offloading.timing import milliseconds
from eval.offloading.unlearned import principal, signs, spread_of
from eval.offloading.ways import Way
from eval.understanding.records import read_truth

LEAST_NEW_TOKENS = 256
"""As in eval.predict."""

TRAINING_PATCHES = 1 << 16
"""On which what is not learnt is fitted: a thousand tiny pictures, thirty large ones."""

BATCH = 8
"""Of those pictures."""

MODEL_JPEG, MODEL_WEBP = (5, 25, 75), (1, 25, 75)
FRAME_JPEG, FRAME_WEBP = (1,), (1, 10)
WHOLE = "features, bf16"
"""The row in which nothing but half of a float's digits is lost."""

AXES = (14,)
"""Of the shipped base's 160 features: 2,016 bytes of 144 patches."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    asks = read_asks(args.instructions, "boxed", "test")
    inputs = {"instructions": args.instructions, "data": args.data, "codec": args.codec}
    if args.adapter:
        inputs["adapter"] = args.adapter
    if Path(args.base).is_dir():
        inputs["base"] = Path(args.base)
    config = {"batch_size": args.batch_size, "goal_bytes": args.goal_bytes, "limit": args.limit}
    stage = Stage(
        args.out,
        kind="codes",
        inputs=inputs,
        config=config,
        code=[__file__],
        resumable=True,
        restart=args.restart,
    )
    if stage.up_to_date():
        return 0
    demand_there(args.base, None)
    with stage as folder:
        report = _report(args, asks[: args.limit], folder)
        write_json(folder / "accuracy.json", report)
    for line in _summary(report):
        print(f"[{args.out.name}] {line}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.codes", __doc__)
    add = parser.add_argument
    add("--instructions", type=Path, required=True)
    add("--data", type=Path, required=True, help="of data.prep.build: pictures at camera's size")
    add("--base", required=True, help="folder or hub name of the base model")
    add("--adapter", type=Path, help="LoRA adapter folder (train.lora)")
    add("--codec", type=Path, required=True, help="of train.offload, for this base and adapter")
    add("--batch-size", type=int, default=16, help="frames at once (16)")
    add("--limit", type=int, help="only the first frames")
    add("--goal-bytes", type=int, default=2048, help="of the code that is to beat pictures (2048)")
    add_restart(parser)
    add("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.batch_size < 1 or (args.limit is not None and args.limit < 2):
        raise ConfigError("--batch-size must be at least 1, --limit at least 2")
    return args


def _report(args: argparse.Namespace, asks: Sequence[Ask], folder: Path) -> dict[str, Any]:
    from train.offloading.folder import read_codec

    description, codec = read_codec(args.codec)
    revision = demand_base(args.base, None, args.adapter) if args.adapter else None
    demand_same(description.fields, args.codec, args.base, args.adapter)
    loaded = load(args.base, revision, args.adapter)
    codec.to(loaded.model.device)
    frames = {frame.image_id: frame for frame in read_truth(args.instructions / "truth.jsonl")}
    truth = [frames[ask.id] for ask in asks]
    limit = max(LEAST_NEW_TOKENS, longest_answer(asks))
    (folder / "answers").mkdir(exist_ok=True)
    listed = _ways(args, loaded, description, codec)
    errors = {}
    for way in listed:
        errors[way.name], size = merger_error(loaded, way, asks, args.batch_size)
        shown = f"{way.name}: {size:,.0f} bytes, error of what is seen {errors[way.name]:.4f}"
        print(f"[{args.out.name}] {shown}", flush=True)
    rows, measures = [], {}
    for number, way in enumerate(listed):
        path = folder / "answers" / f"{number:02}-{way.kind}.jsonl"
        records = kept_answers(path, loaded, way, asks, limit, args.batch_size, args.out.name)
        measures[way.name] = measures_of(records, truth)
        rows.append({**row(way, records, measures[way.name]), "merger_error": errors[way.name]})
        print(f"[{args.out.name}] {_line(rows[-1])}", flush=True)
    return {
        "codec": description.id,
        "rows": rows,
        "picture": picture_matters(measures[WHOLE], measures[listed[0].name]),
        "goal": goal(rows, measures, args.goal_bytes),
        "milliseconds": milliseconds(loaded, description, codec, args.codec, asks[0], limit),
    }


def _ways(args: argparse.Namespace, loaded: Loaded, description: Any, codec: Any) -> list[Way]:
    """All rows, in order."""
    block = description.block
    training = spread_of(_training_features(args.instructions, loaded, block))
    frames = {frame.image_id: args.data / frame.image for frame in read_split(args.data, "test")}
    widest = description.channels[-1]
    return [
        ways.nothing(),
        *(ways.code(description, codec, channels) for channels in description.channels),
        ways.bfloat16(block),
        *(principal(training, axes, block) for axes in AXES),
        *(signs(training, bits, block) for bits in (widest // 4, widest)),
        *(ways.model_picture("jpeg", quality) for quality in MODEL_JPEG),
        *(ways.model_picture("webp", quality) for quality in MODEL_WEBP),
        *(ways.frame_picture("jpeg", quality, frames) for quality in FRAME_JPEG),
        *(ways.frame_picture("webp", quality, frames) for quality in FRAME_WEBP),
        ways.frame_picture("png", None, frames),
    ]


def _training_features(instructions: Path, loaded: Loaded, block: int) -> Any:
    """Features at the cut of the first training pictures, (n, D)."""
    import torch

    from train.offloading.tower import head, tower_of

    tower = tower_of(loaded.model)
    asks = read_asks(instructions, "boxed", "train")
    parts: list[Any] = []
    with torch.inference_mode():
        while asks and sum(map(len, parts)) < TRAINING_PATCHES:
            batch, asks = asks[:BATCH], asks[BATCH:]
            encoded = encode(loaded.processor, batch).to(loaded.model.device)
            pixels = encoded["pixel_values"].to(tower.dtype)
            parts.append(head(tower, pixels, encoded["image_grid_thw"], block).float())
    return torch.cat(parts)


def _line(row: dict[str, Any]) -> str:
    figures = ", ".join(
        f"{name} {row[name]['value']:.3f}" for name in ("count_em", "sev_f1", "bbox_miou")
    )
    return f"{row['name']}: {row['bytes']:,.0f} bytes, {figures}"


def _summary(report: dict[str, Any]) -> list[str]:
    found = report["goal"]
    lines = []
    if not report["picture"]["matters"]:
        lines.append(
            "a grey picture is answered as well as the whole one: this model's answers come from "
            "the boxes in the prompt, and tell no way from another; merger_error does"
        )
    if found is None:
        return [*lines, "no code as small as --goal-bytes"]
    return [
        *lines,
        f"{found['code']} ({found['bytes']:,.0f} bytes) beside {len(found['against'])} pictures up "
        f"to 8 kB: better beyond chance than {len(found['beaten'])}, higher than "
        f"{len(found['higher'])}, worse beyond chance than {len(found['lost'])}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
