"""The project's own base model: a tiny Qwen2.5-VL that sees, follows schemas, and copies.

    python -m train.base --config configs/lora/base.yaml --primer OUT/primer --out OUT/base

It stands in for Qwen2.5-VL-7B-Instruct where there is no GPU: same classes, special tokens and chat
template, in an ordinary Hugging Face folder, under 8 MB in bfloat16. Its vision tower learns by
itself what rendered scenes show; its language model learns through LLaMA-Factory from the primer to
answer in the JSON that a prompt asks for. Of DAT's answer it knows the words, not the
task. A run that was cut off goes on where it stopped. With --earlier train/shipped_base, and a
primer of another --seed, a night more makes a better base of it.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import add_restart, command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from train.mllm import same_run, tuning
from train.mllm.base_training import VOCABULARY, Steps, make_base
from train.mllm.refused_keys import demand_keys
from train.recipe.config_file import read_config
from train.recipe.upstream_keys import demand_llamafactory


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.base", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--primer", type=Path, required=True, help="made by data.prep.primer")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--earlier", type=Path, help="a base of this kind, to be taught further")
    parser.add_argument(
        "--tower", type=int, default=15000, help="steps of the vision tower (15000)"
    )
    parser.add_argument("--words", type=int, default=4300, help="steps without pictures (4300)")
    parser.add_argument("--grounding", type=int, default=1900, help="steps on places (1900)")
    add_restart(parser)
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_intermixed_args(argv)
    config = read_config(args.config, args.override)
    demand_llamafactory(config)
    if config.get("finetuning_type") != "full":
        raise ConfigError(f"{args.config}: an untrained model needs finetuning_type: full")
    demand_keys(config)
    steps = Steps(args.tower, args.words, args.grounding)
    if min(steps) < 1:
        given = ", ".join(f"--{name} {count}" for name, count in steps._asdict().items())
        raise ConfigError(f"each training takes at least one step, got {given}")
    inputs = {"primer": args.primer}
    if args.earlier is not None:
        inputs["earlier"] = args.earlier
    stage = Stage(
        args.out,
        kind="base",
        inputs=inputs,
        config={**tuning.recipe(config, length={}), "vocabulary": VOCABULARY, **steps._asdict()},
        code=[__file__],
        resumable=True,
        restart=args.restart,
        reasons=same_run.reasons(config),
    )
    if not stage.up_to_date():
        manifest.read(args.primer, "primer")
        if args.earlier is not None:
            manifest.verify(args.earlier, "base")
        with stage as folder:
            make_base(folder, args.primer, config, steps, args.out.name, args.earlier)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
