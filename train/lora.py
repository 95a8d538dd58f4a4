"""LoRA tuning of the MLLM through LLaMA-Factory.

    python -m train.lora --config configs/lora/boxed.yaml --dataset boxed_train \\
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct --out OUT/lora-boxed

Before training every sample is checked against the base's own processor: an image that would be
resized again, or a sample longer than `cutoff_len`, is refused by name; so are a key that
LLaMA-Factory does not know, a base that is not there or not the one that the adapter states, and a
card or a disk that is too small.
After training the adapter is checked. A run that was cut off goes on from its last checkpoint. One
that has ended is prolonged by a larger max_steps or num_train_epochs, where its learning rate does
not depend on the end (lr_scheduler_type constant or constant_with_warmup).
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import add_restart, command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from train.mllm import lengths, preflight, resources, same_run, tuning
from train.mllm.adapter_training import make_adapter, prolong
from train.mllm.refused_keys import demand_keys
from train.mllm.run_settings import read_settings
from train.recipe.config_file import read_config
from train.recipe.upstream_keys import demand_known, llamafactory_keys


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.lora", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    parser.add_argument(
        "--dataset", required=True, help="boxed_train, raw_train, or both: boxed_train,raw_train"
    )
    parser.add_argument("--instructions", type=Path, required=True, help="by data.prep.instruct")
    parser.add_argument("--base", required=True, help="folder or hub name of the base model")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--ignore-memory", action="store_true", help="train though the estimate exceeds the card"
    )
    add_restart(parser)
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args(argv)

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
    base = preflight.base_folder(settings)
    preflight.demand_same_base(settings)

    inputs = {"instructions": args.instructions}
    if base is not None:
        inputs["base"] = base
    if isinstance(config.get("deepspeed"), str):
        inputs["deepspeed"] = Path(config["deepspeed"])
    length = same_run.length(config)
    stage = Stage(
        args.out,
        kind="lora",
        inputs=inputs,
        config={
            **tuning.recipe(config, length),
            "instructions": manifest.read(args.instructions, "instructions").config,
            "dataset": args.dataset,
            "base": args.base if base is None else base.name,
        },
        code=[__file__],
        resumable=True,
        restart=args.restart,
        length=length,
        reasons=same_run.reasons(config),
    )
    if not stage.up_to_date():
        resources.demand_card(settings)
        resources.model_sizes(settings)  # the base can be had at all
        lengths.samples_files(args.instructions, args.dataset)
        with stage as folder:
            if stage.prolongs:
                prolong(args.out, folder)
            make_adapter(folder, config, settings, args.out.name, args.ignore_memory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
