"""The smoke job's base model: a tiny Qwen2.5-VL, trained in full through LLaMA-Factory.

    python -m train.base --config configs/lora/smoke_base.yaml --primer OUT/primer --out OUT/base

It stands in for Qwen2.5-VL-7B-Instruct where there is no GPU: same classes, special tokens and chat
template, in an ordinary Hugging Face folder. It learns from the primer to read coloured boxes and
to copy from the prompt; of accidents and of DAT's answer it knows the words, not the task.
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dat_runtime import answer, manifest, prompt
from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from dat_runtime.types import SEVERITIES, Accident, Box, Detection, Size
from train.mllm import tiny_model, tuning
from train.recipe.config_file import read_config

VOCABULARY = 640


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.base", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--primer", type=Path, required=True, help="made by data.prep.primer")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("override", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args(argv)
    config = read_config(args.config, args.override)
    if config.get("finetuning_type") != "full":
        raise ConfigError(f"{args.config}: an untrained model needs finetuning_type: full")
    stage = Stage(
        args.out,
        kind="base",
        inputs={"primer": args.primer},
        config={**tuning.recipe(config), "vocabulary": VOCABULARY},
        code=[__file__],
        resumable=True,
    )
    if not stage.up_to_date():
        manifest.read(args.primer, "primer")
        with stage as folder:
            make_base(folder, args.primer, config, name=args.out.name)
    return 0


def make_base(folder: Path, primer: Path, config: Mapping[str, Any], name: str) -> None:
    """Fill the output folder: the untrained model, then its trained weights in their place."""
    untrained, work = folder / "untrained", folder / "work"
    if not (untrained / "processor_config.json").is_file():  # written last
        shutil.rmtree(untrained, ignore_errors=True)
        print(f"[{name}] tokenizer and untrained model", flush=True)
        with tuning.quiet(folder / tuning.LOG):
            texts = [*primer_texts(primer), *task_texts(config["seed"])]
            tiny_model.build(
                untrained, texts, VOCABULARY, config["image_max_pixels"], config["seed"]
            )
    paths = {
        "model_name_or_path": str(untrained),
        "dataset_dir": str(primer),
        "media_dir": str(primer),
        "dataset": "primer_train",
    }
    report = tuning.run({**config, **paths}, work, folder, name)
    for file in untrained.iterdir():
        file.rename(folder / file.name)
    (work / "model.safetensors").replace(folder / "model.safetensors")
    write_atomically(
        folder / "config.yaml", yaml.safe_dump(tuning.without_paths(config), sort_keys=False)
    )
    write_atomically(folder / "run.json", json.dumps(report, indent=1) + "\n")
    shutil.rmtree(work)
    untrained.rmdir()


def primer_texts(primer: Path) -> Iterator[str]:
    """All messages of the primer's training part.

    Raises:
        DataError: the file is not what `data.prep.primer` writes.
    """
    path = primer / "primer_train.json"
    try:
        for row in json.loads(path.read_text("utf-8")):
            yield row["system"]
            yield from (message["content"] for message in row["messages"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"no ShareGPT samples ({error!r})", path) from None


def task_texts(seed: int, count: int = 500) -> Iterator[str]:
    """Prompts and answers of DAT with random boxes: words for the vocabulary, nothing to learn."""
    draw = random.Random(seed)
    frame = Size(640, 640)
    for _ in range(count):
        detections = []
        for _ in range(draw.randint(0, 3)):
            (x1, x2), (y1, y2) = (sorted(draw.sample(range(640), 2)) for _ in range(2))
            box, severity = Box(x1, y1, x2, y2, frame), draw.choice(SEVERITIES)
            detections.append(Detection(box, severity, draw.random()))
        yield prompt.SYSTEM
        yield prompt.task_prompt(frame, detections)
        yield answer.dump(answer.target([Accident(d.box, d.severity) for d in detections]))


if __name__ == "__main__":
    raise SystemExit(main())
