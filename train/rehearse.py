"""A few steps of the trainings before they are paid for: memory, speed and hours on this machine.

    python -m train.rehearse --config configs/lora/boxed.yaml --dataset boxed_train \\
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct --out OUT/rehearsal \\
        --gate "configs/yolo/gate_2cls.yaml" --data OUT/data

Nothing of the base is downloaded but its configuration and tokenizer: the weights are random, of
its sizes. Two steps of the longest samples show the peak of memory, then --steps steps of samples
drawn at random the speed. The adapter is held to what a node and a server take. With --gate so
many batches of train.gate come too, of random weights, with the user's own pictures. Writes
rehearsal.json and rehearsal.html. Without a gate, make the instructions with --detections labels.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_atomically, write_json
from dat_runtime.stage import Stage
from train.detector import ultralytics_config
from train.detector.dataset import count_boxes, demand_classes
from train.mllm import lengths, preflight, resources, tuning
from train.mllm.lora_config import read_lora_config
from train.mllm.projection import project
from train.mllm.rehearsal import rehearse
from train.mllm.run_settings import read_settings
from train.recipe.config_file import words
from train.recipe.projecting import Rows, page


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    config = read_lora_config(
        args.config, args.override, args.base, args.instructions, args.dataset
    )
    settings = read_settings(config)
    preflight.base_folder(settings)
    preflight.demand_prompts(settings)
    resources.demand_card(settings)
    sizes = resources.model_sizes(settings)
    manifest.read(args.instructions, "instructions")
    lengths.samples_files(args.instructions, args.dataset)
    gate = _gate_config(args)
    inputs = {"instructions": args.instructions, **({"data": args.data} if gate else {})}
    recipe = {**tuning.recipe(config, length={}), "steps": args.steps, "gate": gate}
    stage = Stage(args.out, kind="rehearsal", inputs=inputs, config=recipe, code=[__file__])
    with stage as folder:  # each time: it tells of this machine at this hour
        rehearsed = rehearse(folder, config, settings, args.steps)
        projection = project(rehearsed, settings, sizes)
        told = {**projection.as_json(), "measured": rehearsed.measured}
        tables: dict[str, Rows] = {f"LoRA, {args.config.name}": projection.rows()}
        if gate:  # last: it leaves this process its memory on a card
            from train.detector.rehearsal import rehearse as rehearse_gate

            boxes = count_boxes(args.data)
            trained = rehearse_gate(folder, args.data, gate, boxes, args.steps)
            told["gate"] = vars(trained)
            tables[f"Gate, {Path(args.gate[0]).name}"] = trained.rows()
        write_json(folder / "rehearsal.json", told)
        base = Path(args.base).name if Path(args.base).is_dir() else args.base
        write_atomically(folder / "rehearsal.html", page(f"Rehearsal with {base}", tables))
    for heading, rows in tables.items():
        print(f"[{args.out.name}] {heading}", flush=True)
        for what, much in rows:
            print(f"[{args.out.name}]   {what:<24} {much}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("train.rehearse", __doc__)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    add("--dataset", default="boxed_train", help="as of train.lora (boxed_train)")
    add("--instructions", type=Path, required=True, help="by data.prep.instruct")
    add("--base", required=True, help="folder or hub name of the base model")
    add("--gate", type=words, help="a gate's configuration and its key=value, in one word")
    add("--data", type=Path, help="the gate's, by data.prep.build")
    add("--steps", type=int, default=8, help="of samples drawn at random, batches of the gate (8)")
    add("--out", type=Path, required=True, help="folder to make")
    add("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_intermixed_args(argv)
    if args.steps < 3:
        raise ConfigError(f"--steps {args.steps}: an interval needs at least 3")
    if (args.gate is None) != (args.data is None):
        raise ConfigError("--gate and --data go together: its configuration and its pictures")
    return args


def _gate_config(args: argparse.Namespace) -> dict[str, Any] | None:
    """The gate's keys, looked at before the MLLM's minutes."""
    if args.gate is None:
        return None
    config = ultralytics_config.read_config(Path(args.gate[0]), args.gate[1:])
    demand_classes(args.data, config)
    ultralytics_config.demand_device(config)
    return config


if __name__ == "__main__":
    raise SystemExit(main())
