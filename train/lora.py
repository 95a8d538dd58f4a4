"""LoRA tuning of the MLLM through LLaMA-Factory.

    python -m train.lora --config configs/lora/boxed.yaml --dataset boxed_train \
        --instructions OUT/instructions --base Qwen/Qwen2.5-VL-7B-Instruct --out OUT/lora-boxed

Before training every sample is checked against the base's own processor (`train.mllm.preflight`):
an image that would be resized again, or a sample longer than `cutoff_len`, is refused by name; so
are a base that is another than stated, and a card or a disk that is too small. After it the
adapter is checked. A run that was cut off goes on from its last checkpoint.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG, WEIGHTS, Adapter, read_adapter
from dat_runtime.errors import ConfigError, ModelError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from train.mllm import model_card, preflight, tuning, upstream
from train.recipe.config_file import read_config


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.lora", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--dataset", required=True, help="boxed_train or raw_train")
    parser.add_argument("--instructions", type=Path, required=True, help="by data.prep.instruct")
    parser.add_argument("--base", required=True, help="folder or hub name of the base model")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--ignore-memory", action="store_true", help="train though the estimate exceeds the card"
    )
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args(argv)
    config = read_config(args.config, args.override)
    if config.get("finetuning_type") != "lora":
        raise ConfigError(f"{args.config}: expected finetuning_type: lora")
    config |= {
        "model_name_or_path": args.base,
        "dataset_dir": str(args.instructions),
        "media_dir": str(args.instructions),
        "dataset": args.dataset,
    }
    base, shared = preflight.base_folder(args.base, config), config.get("deepspeed")
    preflight.demand_same_base(config)
    stage = Stage(
        args.out,
        kind="lora",
        inputs={
            "instructions": args.instructions,
            **({"base": base} if base else {}),
            **({"deepspeed": Path(shared)} if isinstance(shared, str) else {}),
        },
        config={
            **tuning.recipe(config),
            "instructions": manifest.read(args.instructions, "instructions").config,
            "dataset": args.dataset,
            "base": base.name if base else args.base,
        },
        code=[__file__],
        resumable=True,
    )
    if not stage.up_to_date():
        with stage as folder:
            make_adapter(folder, config, args.out.name, args.ignore_memory)
    return 0


def make_adapter(
    folder: Path, config: Mapping[str, Any], name: str, ignore_memory: bool = False
) -> None:
    """Fill the output folder: check the run, train, check the adapter, describe it."""
    work = folder / "work"
    options = [upstream.IGNORE_MEMORY] if ignore_memory else []
    report = tuning.run(config, work, folder, name, preflight=options)
    for file in (WEIGHTS, CONFIG):
        (work / file).replace(folder / file)
    _state_base(folder / CONFIG, config)
    adapter = read_adapter(folder)
    _demand_change(folder, adapter)
    card = model_card.lora_card(config, adapter, report)
    write_atomically(folder / "README.md", card)
    write_atomically(folder / "config.yaml", _resolved(config))
    write_atomically(folder / "run.json", json.dumps(report, indent=1) + "\n")
    shutil.rmtree(work)


def _resolved(config: Mapping[str, Any]) -> str:
    """The configuration as it ran; the paths are those of the command line."""
    return yaml.safe_dump(dict(config), sort_keys=False)


def _state_base(path: Path, config: Mapping[str, Any]) -> None:
    """Name the base model's revision in the adapter's configuration; PEFT leaves it open."""
    base = Path(config["model_name_or_path"])
    revision = preflight.base_revision(config["model_name_or_path"], config)
    name = base.resolve().name if base.is_dir() else config["model_name_or_path"]
    content = json.loads(path.read_text("utf-8"))
    content |= {"base_model_name_or_path": name, "revision": revision}
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _demand_change(folder: Path, adapter: Adapter) -> None:
    """LoRA begins with B = 0: an adapter that still has it changes no answer.

    Raises:
        ModelError: names the first B that is all zeros.
    """
    from safetensors import safe_open

    # NumPy knows no bfloat16; PyTorch takes seconds to import.
    framework = "pt" if "BF16" in adapter.dtypes else "np"
    with safe_open(folder / WEIGHTS, framework) as tensors:
        for key in sorted(tensors.keys()):
            if ".lora_B." in key and not tensors.get_tensor(key).any():
                raise ModelError(
                    f"{folder / WEIGHTS}: {key} is all zeros, so the adapter changes nothing "
                    "there: train longer, or take the module out of lora_target"
                )


if __name__ == "__main__":
    raise SystemExit(main())
