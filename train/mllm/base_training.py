"""The making of the project's own base: a tower that sees, a language model that answers.

Four trainings: the vision tower by itself (`seeing`) and, at the same time, the language model on
words alone, through LLaMA-Factory; then the language model on the places of things in pictures, and
on everything together. The tower stays as it is once it sees.
"""

import math
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime import manifest
from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_json, write_yaml
from dat_runtime.stage import ROOT
from train.mllm import resources, tiny_model, tuning
from train.mllm.model_card import base_card
from train.mllm.run_settings import RunSettings, read_settings

VOCABULARY = 640
"""Entries of the tokenizer besides the special tokens; 256 of them are the bytes."""

WEIGHTS = "model.safetensors"
VISUAL = "visual."
"""Stands in the names of the tower's weights, with the merger's."""
REPORT = "run.json"
"""What each training gave, by name; of a base that went on from an earlier one, that one's too."""
SEEN, DONE = "seen.json", "done.json"
"""What the tower's training leaves when it is whole, and what one of the language model does."""


class Steps(NamedTuple):
    """Lengths of the trainings before the last one, whose length is `max_steps`."""

    tower: int
    words: int
    grounding: int


def make_base(
    folder: Path,
    primer: Path,
    config: Mapping[str, Any],
    steps: Steps,
    name: str,
    earlier: Path | None = None,
) -> None:
    """Fill the output folder of `train.base`.

    A run that was cut off goes on in the training in which it was.

    Args:
        config: LLaMA-Factory's keys.
        name: the progress lines begin with it.
        earlier: a base of this kind to go on from, instead of an untrained one.
    """
    settings = read_settings(config)
    device = "cuda" if resources.demand_card(settings) else "cpu"
    first, work, log = folder / "first", folder / "work", folder / tuning.LOG
    _first(first, earlier, primer, settings, log, name)
    reports = {"earlier": read_json(earlier / REPORT)} if earlier else {}
    words = {**config, "dataset": "words_train", "max_steps": steps.words}
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        # Words need no picture, so the language model learns them while the tower learns to see.
        reading = pool.submit(_read, folder, work / "words", first, primer, words, name, stop)
        try:
            seen = _see(first, primer, work / "seen", log, settings.seed, steps.tower, device, name)
        except BaseException:
            stop.set()  # an error would else be shown when the words are learnt
            raise
        reports["tower"] = read_json(seen / SEEN)
        reports["words"] = reading.result()
    model = _joined(first, seen, work / "words", work / "after-words")
    trainings = {
        "grounding": {"dataset": "grounding_train", "max_steps": steps.grounding},
        # Without those of the earlier trainings their forms would be forgotten: copying goes in
        # 1,500 steps on places alone. Words come last: a set without pictures cannot be the first.
        "questions": {"dataset": "grounding_train,questions_train,words_train"},
    }
    for part, set_here in trainings.items():
        keys = {**config, **set_here}
        reports[part] = _read(folder, work / part, model, primer, keys, name)
        model = _model(first, work / part, work / f"after-{part}")

    for file in first.iterdir():
        file.rename(folder / file.name)
    count = _halved(model / WEIGHTS, folder / WEIGHTS)
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "dtype": "bfloat16"})
    write_yaml(folder / "config.yaml", tuning.without_paths(config))
    write_json(folder / REPORT, reports)
    side = math.isqrt(settings.image_max_pixels)
    scenes = manifest.read(primer, "primer").config["scenes"]
    (folder / "README.md").write_text(base_card(count, side, scenes, reports), encoding="utf-8")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    shutil.rmtree(work)
    first.rmdir()


def _first(
    folder: Path,
    earlier: Path | None,
    primer: Path,
    settings: RunSettings,
    log: Path,
    name: str,
) -> None:
    """The untrained model or the earlier one, as long as an earlier start has not left it."""
    # `processor_config.json` is written last: with it the model of an earlier start is whole.
    if (folder / "processor_config.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    print(f"[{name}] {earlier or 'tokenizer and untrained model'}", flush=True)
    with tuning.output_into(log):
        if earlier:
            model, processor = _loaded(earlier)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            return
        # Of the primer's texts alone: a piece that stands in no sample is never learnt.
        texts, pixels, seed = primer_texts(primer), settings.image_max_pixels, settings.seed
        tiny_model.build(folder, texts, VOCABULARY, pixels, seed, tiny_model.SMALL)


def _see(
    first: Path,
    primer: Path,
    work: Path,
    log: Path,
    seed: int,
    steps: int,
    device: str,
    name: str,
) -> Path:
    """The model whose tower has learnt to see."""
    if (work / SEEN).is_file():
        return work
    from train.mllm import seeing

    work.mkdir(parents=True, exist_ok=True)
    with tuning.output_into(log):
        model, processor = _loaded(first)
    model.to(device)
    report = seeing.learn(model, processor, primer, work, steps, seed, name)
    print(f"[{name}] tower: {report}", flush=True)
    with tuning.output_into(log):
        model.save_pretrained(work)
        processor.save_pretrained(work)
    write_json(work / SEEN, report)
    return work


def _loaded(folder: Path) -> tuple[Any, Any]:
    """A model in float32, and its processor."""
    import torch
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def _read(
    folder: Path,
    work: Path,
    model: Path,
    primer: Path,
    config: Mapping[str, Any],
    name: str,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Train the language model on one of the primer's sets; `work` then holds its weights."""
    if not (work / DONE).is_file():
        paths = {
            "model_name_or_path": str(model),
            "dataset_dir": str(primer),
            "media_dir": str(primer),
        }
        part = f"{name} {work.name}"
        write_json(work / DONE, tuning.run({**config, **paths}, work, folder, part, stop=stop))
    report: dict[str, Any] = read_json(work / DONE)
    return report


def _model(files: Path, weights: Path, to: Path) -> Path:
    """A model's folder: everything of `files`, with the weights of a training."""
    shutil.copytree(files, to, dirs_exist_ok=True)
    shutil.copyfile(weights / WEIGHTS, to / WEIGHTS)
    return to


def _joined(files: Path, seen: Path, words: Path, to: Path) -> Path:
    """A model's folder: the tower of `seen`, everything else of `words`."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(files, to, dirs_exist_ok=True)
    saw, read = load_file(seen / WEIGHTS), load_file(words / WEIGHTS)
    weights = {name: (saw if VISUAL in name else read)[name] for name in read}
    save_file(weights, to / WEIGHTS, metadata={"format": "pt"})
    return to


def _halved(weights: Path, to: Path) -> int:
    """Store the weights in bfloat16, and say how many they are."""
    import torch
    from safetensors.torch import load_file, save_file

    halved = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
    save_file(halved, to, metadata={"format": "pt"})
    return sum(tensor.numel() for tensor in halved.values())


def primer_texts(primer: Path) -> Iterator[str]:
    """All messages of the primer's training parts.

    Raises:
        DataError: a file is not what `data.prep.primer` writes.
    """
    for name in ("words_train.json", "grounding_train.json", "questions_train.json"):
        path = primer / name
        rows = read_json(path)
        try:
            for row in rows:
                yield row["system"]
                for message in row["messages"]:
                    yield message["content"]
        except (KeyError, TypeError) as error:
            raise DataError(f"does not hold ShareGPT samples ({error!r})", path) from None
