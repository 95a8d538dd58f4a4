"""Questions about the real clips of the ACCIDENT benchmark, as a node would ask them.

    python -m data.prep.accident_clips --source ACCIDENT --gate OUT/gate --out OUT/accident-clips
    python -m eval.predict --instructions OUT/accident-clips --inputs boxed --model BASE \\
        --adapter OUT/lora-boxed --out OUT/accident-answers/boxed-lora
    python -m eval.accident_clips --clips OUT/accident-clips \\
        --predictions OUT/accident-answers/boxed-lora --out OUT/accident-score

ACCIDENT is the folder with metadata-real.csv and the videos, as its authors publish it; nothing is
downloaded. Of each clip two frames a second go through the gate, and those that it keeps become
boxed images with their prompts, without answers: the labels state one moment of a clip, not what is
in each frame, and no severity. clips.jsonl keeps the labels and the time of each frame. What was
implemented from which description, and what is not verified: docs/evaluation.md.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import add_restart, command
from dat_runtime.draw import MAX_PIXELS, PATCH
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from data.prep.importers.accident_clips import read_clips
from data.prep.instructions.clips import FPS, write_clips
from data.prep.instructions.guides import Gates, from_gate


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("data.prep.accident_clips", __doc__)
    add = parser.add_argument
    add("--source", type=Path, required=True, help="folder with metadata-real.csv and the videos")
    add("--gate", type=Path, required=True, help="trained gate (train.gate)")
    add("--out", type=Path, required=True, help="folder to make")
    add("--max-pixels", type=int, default=MAX_PIXELS, help=f"of a model image ({MAX_PIXELS})")
    add_restart(parser)
    args = parser.parse_args(argv)
    if args.max_pixels < PATCH * PATCH:
        raise ConfigError(f"--max-pixels must be at least {PATCH * PATCH}, got {args.max_pixels}")
    if args.out.resolve().is_relative_to(args.source.resolve()):
        raise ConfigError(f"--out {args.out} may not lie inside --source {args.source}")
    clips = read_clips(args.source)
    stage = Stage(
        args.out,
        kind="instructions",
        inputs={"source": args.source, "gate": args.gate},
        config={
            "inputs": ["boxed"],
            "detections": "gate",
            "classes": Gates("gate", args.gate).classes,
            "max_pixels": args.max_pixels,
            "fps": FPS,
        },
        code=[__file__],
        versions=manifest.VERSIONS,
        restart=args.restart,
    )
    if not stage.up_to_date():
        manifest.read(args.gate, "gate")
        with stage as folder:
            write_clips(folder, clips, from_gate(args.gate), args.max_pixels)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
