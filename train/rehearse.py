"""A few steps of a LoRA run before it is paid for: memory, speed and hours on this machine.

    python -m train.rehearse --config configs/lora/boxed.yaml --dataset boxed_train \\
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct --out OUT/rehearsal

Nothing of the base is downloaded but its configuration and tokenizer: the weights are random, of
its sizes. Two steps of the longest samples show the peak of memory, then --steps steps of samples
drawn at random the speed. The adapter is held to what a node and a server take. Writes
rehearsal.json and rehearsal.html. Without a gate, make the instructions with --detections labels.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_atomically, write_json
from dat_runtime.stage import Stage
from train.mllm import lengths, preflight, resources, tuning
from train.mllm.projection import project
from train.mllm.refused_keys import demand_keys
from train.mllm.rehearsal import rehearse
from train.mllm.run_settings import read_settings
from train.recipe.config_file import read_config
from train.recipe.upstream_keys import demand_known, llamafactory_keys


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.rehearse", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--dataset", default="boxed_train", help="as of train.lora (boxed_train)")
    parser.add_argument("--instructions", type=Path, required=True, help="by data.prep.instruct")
    parser.add_argument("--base", required=True, help="folder or hub name of the base model")
    parser.add_argument("--steps", type=int, default=8, help="of samples drawn at random (8)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args(argv)
    if args.steps < 3:
        raise ConfigError(f"--steps {args.steps}: an interval needs at least 3")
    config = read_config(args.config, args.override)
    if config.get("finetuning_type") != "lora":
        raise ConfigError(f"{args.config}: expected finetuning_type: lora")
    demand_keys(config)
    config |= {
        "model_name_or_path": args.base,
        "dataset_dir": str(args.instructions),
        "media_dir": str(args.instructions),
        "dataset": args.dataset,
    }
    demand_known(config, llamafactory_keys(), "LLaMA-Factory")
    settings = read_settings(config)
    preflight.base_folder(settings)
    resources.demand_card(settings)
    sizes = resources.model_sizes(settings)
    manifest.read(args.instructions, "instructions")
    lengths.samples_files(args.instructions, args.dataset)
    stage = Stage(
        args.out,
        kind="rehearsal",
        inputs={"instructions": args.instructions},
        config={**tuning.recipe(config, length={}), "steps": args.steps},
        code=[__file__],
    )
    with stage as folder:  # each time: it tells of this machine at this hour
        rehearsed = rehearse(folder, config, settings, args.steps)
        projection = project(rehearsed, settings, sizes)
        told = {**projection.as_json(), "measured": rehearsed.measured}
        write_json(folder / "rehearsal.json", told)
        page = projection.page(f"Rehearsal of {args.config.name} with {args.base}")
        write_atomically(folder / "rehearsal.html", page)
    for what, much in projection.rows():
        print(f"[{args.out.name}] {what:<24} {much}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
