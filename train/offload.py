"""A codec of learned bits between a weak node and a server (ApproxBit), for one base and adapter.

    python -m train.offload --config configs/offload/smoke.yaml --instructions OUT/instructions \\
        --base BASE --adapter OUT/lora-boxed --out OUT/codec

The base and its adapter stay as they are; encoder and decoder learn to stand between the halves of
the vision tower: first to reconstruct features, then to keep the merger's output, then the language
model's answers. The folder (`dat_runtime.codec_folder`) holds what a node runs, without torch, and
what a server needs to finish. A run that was cut off goes on from its last checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.codec_folder import KIND
from dat_runtime.command import add_restart, command
from dat_runtime.errors import reports_errors
from dat_runtime.stage import Stage
from train.mllm.lengths import samples_file
from train.recipe.config_file import read_config, versions

TOOLS = ("torch", "transformers", "peft")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.offload", __doc__)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="keys of train.offloading.settings, YAML")
    add("--instructions", type=Path, required=True, help="by data.prep.instruct")
    add("--inputs", choices=("boxed", "raw"), default="boxed", help="pictures to learn on (boxed)")
    add("--base", required=True, help="folder or hub name of the base model")
    add("--adapter", type=Path, help="LoRA adapter that answers (train.lora)")
    add("--out", type=Path, required=True, help="folder to make")
    add_restart(parser)
    add("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_intermixed_args(argv)
    config = read_config(args.config, args.override)
    datasets = (f"{args.inputs}_train", f"{args.inputs}_val")

    from train.offloading.frozen import backbone_of
    from train.offloading.settings import read_settings

    settings = read_settings(config)
    backbone = backbone_of(args.base, args.adapter, settings.model_revision)
    inputs = {"instructions": args.instructions}
    if backbone.is_folder:
        inputs["base"] = Path(backbone.path)
    if args.adapter:
        inputs["adapter"] = args.adapter
    stage = Stage(
        args.out,
        kind=KIND,
        inputs=inputs,
        config=_recipe(config, args.inputs, backbone.base),
        code=[__file__],
        versions=("prompt",),
        resumable=True,
        restart=args.restart,
    )
    if not stage.up_to_date():
        manifest.verify(args.instructions, "instructions")
        for dataset in datasets:
            samples_file(args.instructions, dataset)
        from train.offloading.making import make_codec

        with stage as folder:
            make_codec(
                folder, backbone, args.instructions, datasets, config, settings, args.out.name
            )
    return 0


def _recipe(config: dict[str, Any], inputs: str, base: str) -> dict[str, Any]:
    return {"codec": config, "inputs": inputs, "base": base, "versions": versions(*TOOLS)}


if __name__ == "__main__":
    raise SystemExit(main())
