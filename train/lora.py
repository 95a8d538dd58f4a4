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

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.command import add_restart, command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from train.mllm import best, lengths, preflight, resources, same_run, tuning
from train.mllm.adapter_training import make_adapter, prolong
from train.mllm.lora_config import read_lora_config
from train.mllm.run_settings import RunSettings, read_settings


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
    parser.add_argument(
        "--best-of",
        type=int,
        default=0,
        metavar="FRAMES",
        help="keep the checkpoint with the best SevF1 on so many validation frames (0: the last)",
    )
    parser.add_argument(
        "--patience",
        type=int,
        default=0,
        metavar="N",
        help="with --best-of: end after N checkpoints that are no better (0: never)",
    )
    add_restart(parser)
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_intermixed_args(argv)

    config = read_lora_config(
        args.config, args.override, args.base, args.instructions, args.dataset
    )
    settings = read_settings(config)
    choice = _choice(args, config, settings)
    base = preflight.base_folder(settings)
    preflight.demand_same_base(settings)
    preflight.demand_prompts(settings)

    inputs = {"instructions": args.instructions}
    if base is not None:
        inputs["base"] = base
    if isinstance(config.get("deepspeed"), str):
        inputs["deepspeed"] = Path(config["deepspeed"])
    length = {} if choice else same_run.length(config)
    stage = Stage(
        args.out,
        kind="lora",
        inputs=inputs,
        config={
            **tuning.recipe(config, length),
            **choice,
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
            make_adapter(
                folder,
                config,
                settings,
                args.out.name,
                args.ignore_memory,
                args.best_of,
                args.patience,
            )
    return 0


def _choice(
    args: argparse.Namespace, config: Mapping[str, Any], settings: RunSettings
) -> dict[str, Any]:
    """What decides which checkpoint is kept, for the recipe; nothing where it is the last.

    Raises:
        ConfigError: there is nothing to choose from, or it cannot be chosen on several cards.
        DataError: the instructions have no validation part.
    """
    if args.best_of < 0 or args.patience < 0 or (args.patience and not args.best_of):
        raise ConfigError("--best-of and --patience are at least 0, and --patience needs --best-of")
    if not args.best_of:
        return {}
    if settings.save_strategy != "steps":
        raise ConfigError("--best-of chooses among checkpoints: set save_strategy=steps")
    card = resources.find_card(settings)
    if settings.zero_stage or (card is not None and card.count > 1):
        raise ConfigError("--best-of trains on one card, without DeepSpeed: CUDA_VISIBLE_DEVICES=0")
    best.validation_samples(args.instructions, args.dataset, args.best_of)
    chosen = {"frames": args.best_of, "patience": args.patience, "save_steps": settings.save_steps}
    return {"best_of": chosen}


if __name__ == "__main__":
    raise SystemExit(main())
