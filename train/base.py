"""The smoke job's base model: a tiny Qwen2.5-VL, trained in full through LLaMA-Factory.

    python -m train.base --config configs/lora/smoke_base.yaml --primer OUT/primer --out OUT/base

It stands in for Qwen2.5-VL-7B-Instruct where there is no GPU: same classes, special tokens and chat
template, in an ordinary Hugging Face folder. It learns from the primer to read coloured boxes and
to copy from the prompt; of accidents and of DAT's answer it knows the words, not the task.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import add_restart, command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from train.mllm import same_run, tuning
from train.mllm.base_training import VOCABULARY, make_base
from train.mllm.refused_keys import demand_keys
from train.recipe.config_file import read_config
from train.recipe.upstream_keys import demand_known, llamafactory_keys


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.base", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--primer", type=Path, required=True, help="made by data.prep.primer")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    add_restart(parser)
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args(argv)
    config = read_config(args.config, args.override)
    demand_known(config, llamafactory_keys(), "LLaMA-Factory")
    if config.get("finetuning_type") != "full":
        raise ConfigError(f"{args.config}: an untrained model needs finetuning_type: full")
    demand_keys(config)
    stage = Stage(
        args.out,
        kind="base",
        inputs={"primer": args.primer},
        config={**tuning.recipe(config, length={}), "vocabulary": VOCABULARY},
        code=[__file__],
        resumable=True,
        restart=args.restart,
        reasons=same_run.reasons(config),
    )
    if not stage.up_to_date():
        manifest.read(args.primer, "primer")
        with stage as folder:
            make_base(folder, args.primer, config, name=args.out.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
