"""Instruction data: boxed or raw images, prompts, and the answers that follow from the labels.

    python -m data.prep.instruct --data OUT/data --gate OUT/gate --out OUT/instructions
    python -m data.prep.instruct --data OUT/data --detections out-of-fold --gate OUT/gate \\
        --fold-gate OUT/gate-fold-1 --fold-gate OUT/gate-fold-2 --out OUT/instructions
    python -m data.prep.instruct --data OUT/data --detections labels --out OUT/instructions
    python -m data.prep.instruct --data OUT/data --inputs raw --out OUT/raw
    python -m data.prep.instruct --data OUT/data --gate OUT/gate --family qwen2_5_vl \\
        --out OUT/instructions

Writes LLaMA-Factory's ShareGPT form with its dataset_info.json: {boxed,raw}_{train,val,test}.json
and images/{boxed,raw}/{train,val,test}/<id>.jpg, each image in the size and with the pixels that
the model sees (`docs/decisions/021-what-the-model-sees.md`). Prompts and answers count pixels of
that image, or as the model's --family does (`docs/decisions/031-families.md`). truth.jsonl is the
test part, in pixels of the original frames. detections.json states how often the detections are
wrong in each part.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import add_restart, command
from dat_runtime.draw import MAX_PIXELS
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.family import FAMILIES, QWEN2_5_VL
from dat_runtime.stage import Stage
from data.prep.instructions.guides import ORIGINS, Gates
from data.prep.instructions.sharegpt import INPUTS, write_samples


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = command("data.prep.instruct", __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="prepared set (data.prep.build)")
    add("--gate", type=Path, help="trained gate (train.gate)")
    add("--inputs", choices=INPUTS, nargs="+", default=["boxed"], help="images to make (boxed)")
    add("--detections", choices=ORIGINS, default="gate", help="shown in boxed images (gate)")
    add("--fold-gate", type=Path, action="append", default=[],
        help="gate that left a fold out (train.gate --fold); again for each fold")  # fmt: skip
    add("--out", type=Path, required=True, help="folder to make")
    add("--max-pixels", type=int, default=MAX_PIXELS, help=f"of a model image ({MAX_PIXELS})")
    add("--family", choices=FAMILIES, default=QWEN2_5_VL.name,
        help=f"of the model, as its config.json states model_type ({QWEN2_5_VL.name})")  # fmt: skip
    add_restart(parser)
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    family = FAMILIES[args.family]
    least = family.unit**2
    if args.max_pixels < least:
        raise ConfigError(f"--max-pixels must be at least {least}, got {args.max_pixels}")
    inputs = [kind for kind in INPUTS if kind in args.inputs]
    gates = _gates(args)
    gate_folders = {} if gates is None else gates.inputs
    config = {"max_pixels": args.max_pixels, "inputs": inputs}
    if gates is not None:
        config |= {"detections": gates.origin, "classes": gates.classes}
    stage = Stage(
        args.out,
        kind="instructions",
        inputs={"data": args.data, **gate_folders},
        config=config,
        code=[__file__],
        versions=(*manifest.VERSIONS, family.name),
        restart=args.restart,
    )
    if not stage.up_to_date():
        manifest.read(args.data, "data")
        for gate in gate_folders.values():
            manifest.read(gate, "gate")
        with stage as folder:
            write_samples(folder, args.data, gates, inputs, args.max_pixels, family)
    return 0


def _gates(args: argparse.Namespace) -> Gates | None:
    """The gates whose detections are drawn; None where all images are raw."""
    if "boxed" in args.inputs:
        return Gates(args.detections, args.gate, tuple(args.fold_gate))
    if args.gate or args.fold_gate or args.detections != "gate":
        raise ConfigError("--inputs raw takes no gate and no --detections: nothing is drawn")
    return None


if __name__ == "__main__":
    raise SystemExit(main())
