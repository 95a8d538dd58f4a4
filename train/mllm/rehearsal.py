"""A rehearsal of a LoRA run: random weights of the base's sizes, a few steps of the user's samples.

Two steps of the longest samples come first: the first warms up, and both hold the peak of memory.
Then come steps of samples drawn at random, whose speed is that of the whole run.
"""

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dat_runtime.adapter import CONFIG, WEIGHTS, read_adapter
from dat_runtime.adapter_place import demand_whole
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.files import read_json, write_json
from dat_runtime.manifest import MODEL_FILE
from train.mllm import adapter_training, lengths, preflight, tuning, upstream
from train.mllm.lengths import Lengths
from train.mllm.run_settings import RunSettings

LONGEST_STEPS = 2
DATASET = "rehearsal_train"
MEASURED = "measured.json"


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal measured.

    Attributes:
        samples: lengths of all samples of the whole run.
        step_tokens: tokens of each rehearsed step, without padding.
        measured: as `recorder` leaves it.
        report: the preflight's, for the rehearsed samples.
    """

    samples: Lengths
    step_tokens: tuple[int, ...]
    measured: dict[str, Any]
    report: dict[str, Any]


def rehearse(
    folder: Path, config: Mapping[str, Any], settings: RunSettings, steps: int
) -> Rehearsed:
    """Run the steps in `folder`, which keeps the log and the measurements.

    Args:
        config: LLaMA-Factory's keys of the whole run.
        steps: of samples drawn at random.

    Raises:
        DatError: the preflight refused the run, or the adapter is not what a server takes.
    """
    if settings.quantization_bit:
        raise ConfigError(
            "quantization_bit needs real weights: rehearse with quantization_bit=null"
        )
    blank, work = folder / "blank", folder / "work"
    make_blank(settings, blank)
    instructions = Path(settings.dataset_dir)
    here = replace(settings, model_name_or_path=str(blank))
    measured = lengths.measure(here, lambda line: None)
    size = settings.samples_a_step(processes=1)
    order = chosen(measured.tokens, size, steps, settings.seed)
    samples = lengths.read_samples(instructions, settings.dataset)
    write_set(folder, [samples[i] for i in order], instructions)
    total = LONGEST_STEPS + steps
    keys = {
        **config,
        "model_name_or_path": str(blank),
        "train_from_scratch": True,
        "dataset_dir": str(folder),
        "dataset": DATASET,
        "disable_shuffling": True,
        "max_steps": total,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": total,
        "save_total_limit": 1,
        "report_to": "none",
        "plot_loss": False,
    }
    options = [upstream.REHEARSE, str(folder / MEASURED)]
    report = tuning.run(keys, work, folder, "rehearsal", preflight=options)
    check_adapter(work, blank, settings)
    for path in (blank, work):
        shutil.rmtree(path)
    tokens = [measured.tokens[i] for i in order]
    step_tokens = tuple(sum(tokens[k : k + size]) for k in range(0, len(tokens), size))
    return Rehearsed(measured, step_tokens, read_json(folder / MEASURED), report)


def make_blank(settings: RunSettings, blank: Path) -> None:
    """The base's folder without its weights: configuration and tokenizer."""
    source = Path(settings.model_name_or_path)
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        patterns = ["*.json", "*.txt", "*.jinja"]
        try:
            source = Path(snapshot_download(
                settings.model_name_or_path,
                revision=settings.model_revision,
                allow_patterns=patterns,
            ))  # fmt: skip
        except (OSError, ValueError) as error:
            raise ModelError(f"{settings.model_name_or_path}: {error}") from None
    blank.mkdir()
    for path in source.iterdir():
        is_weights = ".safetensors" in path.name or ".bin" in path.name
        if MODEL_FILE.fullmatch(path.name) and not is_weights:
            shutil.copyfile(path, blank / path.name)


def chosen(tokens: Sequence[int], size: int, steps: int, seed: int) -> list[int]:
    """Places of the samples to rehearse: the longest for two steps, then drawn ones.

    Args:
        tokens: of each sample.
        size: samples of a step.
    """
    by_length = sorted(range(len(tokens)), key=lambda i: -tokens[i])
    longest = by_length[:size]
    first = [longest[i % len(longest)] for i in range(size)] * LONGEST_STEPS
    drawn: list[int] = []
    draw = random.Random(seed)
    while len(drawn) < steps * size:
        drawn += draw.sample(range(len(tokens)), len(tokens))  # as an epoch takes them
    return first + drawn[: steps * size]


def write_set(folder: Path, samples: Sequence[Mapping[str, Any]], instructions: Path) -> None:
    """A set for LLaMA-Factory, its pictures named by their place in `instructions`."""
    images = [
        {**sample, "images": [str((instructions / image).resolve()) for image in sample["images"]]}
        for sample in samples
    ]
    write_json(folder / f"{DATASET}.json", images)
    info = read_json(instructions / "dataset_info.json")
    described = next(iter(info.values()))
    write_json(
        folder / "dataset_info.json", {DATASET: {**described, "file_name": f"{DATASET}.json"}}
    )


def check_adapter(work: Path, blank: Path, settings: RunSettings) -> None:
    """Hold the adapter to what a node and a server take.

    Raises:
        ModelError: it is broken, changes nothing, or has no place in the base.
    """
    adapter = work / "adapter"
    adapter.mkdir()
    for file in (WEIGHTS, CONFIG):
        shutil.copyfile(work / file, adapter / file)
    adapter_training.state_base(adapter / CONFIG, settings)
    adapter_training.demand_change(adapter, read_adapter(adapter))
    demand_whole(adapter, preflight.module_names(str(blank), "main"))
