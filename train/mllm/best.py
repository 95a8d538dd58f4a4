"""The best checkpoint of a training by the task's own metric, and the end when it gets no better.

At every checkpoint the model in training answers a few validation frames; `eval.score` scores
them, in a process of its own: stages know each other by their files. The adapter with the highest
SevF1 is kept, the first of equals. Greedy answers take no random number, so training goes on as
without them, and a run that was cut off asks about the checkpoint that it goes on from.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dat_runtime.adapter import CONFIG, WEIGHTS
from dat_runtime.errors import DataError, DatError
from dat_runtime.files import read_json, write_json, write_json_lines
from dat_runtime.stage import ROOT
from train.mllm.lengths import load_processor
from train.mllm.run_settings import RunSettings

METRIC = "sev_f1"
FOLDER = "best"
HISTORY = "validation.json"
"""Step -> SevF1 on the validation frames."""

BATCH = 8


def validation_samples(instructions: Path, dataset: str, count: int) -> list[dict[str, Any]]:
    """`count` samples of the validation part that belongs to a training set, spread over its file.

    Raises:
        DataError: there is no such part.
    """
    path = instructions / f"{dataset.split(',')[0].strip().removesuffix('_train')}_val.json"
    samples = read_json(path, missing="data.prep.instruct makes it")
    if not samples:
        raise DataError("holds no sample", path)
    taken = min(count, len(samples))
    return [samples[k * len(samples) // taken] for k in range(taken)]


def choose(history: Mapping[int, float], patience: int) -> tuple[int, bool]:
    """The step of the best adapter so far, and whether the training is to end.

    Args:
        patience: checkpoints in a row that are no better, after which it ends; 0 for never.
    """
    best = max(sorted(history), key=lambda step: history[step])
    since = sum(step > best for step in history)
    return best, 0 < patience <= since


def read_history(folder: Path) -> dict[int, float]:
    """What earlier starts found."""
    with suppress(DatError):
        return {int(step): value for step, value in read_json(folder / HISTORY).items()}
    return {}


def write_history(folder: Path, history: Mapping[int, float]) -> None:
    write_json(folder / HISTORY, {str(step): value for step, value in history.items()})


def forget_end(folder: Path, work: Path, patience: int) -> None:
    """Let a training that was cut off once it had ended do its last steps again.

    Resumed at the checkpoint where patience ended it, Transformers would go on.
    """
    history = read_history(folder)
    if history and choose(history, patience)[1]:
        shutil.rmtree(work / f"checkpoint-{max(history)}", ignore_errors=True)


def callback(folder: Path, settings: RunSettings, count: int, patience: int) -> Any:
    """Of Transformers: asks and scores at every checkpoint, and keeps the best in `folder`."""
    from transformers import TrainerCallback

    instructions = Path(settings.dataset_dir)
    samples = validation_samples(instructions, settings.dataset, count)
    processor = load_processor(settings.model_name_or_path, settings.model_revision)
    processor.tokenizer.padding_side = "left"

    class Best(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            at, found = int(state.global_step), read_history(folder)
            # Later steps are done again, and may end the training no sooner than they come.
            history = {step: value for step, value in found.items() if step <= at}
            write_history(folder, history)
            if at and at not in history:
                self.on_save(args, state, control, **given)

        def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            step, started = int(state.global_step), time.monotonic()
            texts = answers(given["model"], processor, samples, instructions, args.bf16)
            history = {**read_history(folder), step: score(folder, samples, texts)}
            best, ends = choose(history, patience)
            if best == step:
                keep(Path(args.output_dir, f"checkpoint-{step}"), folder)
            # Last: a start after a kill before this line asks again.
            write_history(folder, history)
            took = time.monotonic() - started
            line = f"[best] step {step}: {METRIC} {history[step]:.4f}, best at {best}, {took:.1f} s"
            print(line, flush=True)
            control.should_training_stop |= ends

    return Best()


def keep(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint's adapter; the weights come last, and whole."""
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(checkpoint / name, folder / f"{name}.new")
        (folder / f"{name}.new").replace(folder / name)


def score(folder: Path, samples: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> float:
    """SevF1 of the answers, by `eval.score`; boxes are in pixels of the images sent.

    Raises:
        DatError: the scorer failed.
    """
    truth, predictions = folder / "truth.jsonl", folder / "predictions.jsonl"
    frames, given = [], []
    for sample, text in zip(samples, texts, strict=True):
        width, height = sample["frame"]
        accidents = json.loads(sample["messages"][1]["content"])["accidents"]
        frame = {"image_id": sample["image_id"], "image": "", "width": width, "height": height}
        frames.append({**frame, "accidents": accidents})
        given.append({"image_id": sample["image_id"], "text": text})
    write_json_lines(truth, frames)
    write_json_lines(predictions, given)
    command = [sys.executable, "-m", "eval.score", "--out", str(folder)]
    command += ["--truth", str(truth), "--predictions", str(predictions)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DatError(f"eval.score failed: {done.stderr.strip()}")
    return float(read_json(folder / "scores.json")[METRIC]["value"] or 0.0)


def answers(
    model: Any,
    processor: Any,
    samples: Sequence[Mapping[str, Any]],
    instructions: Path,
    bf16: bool,
) -> list[str]:
    """Greedy answers of the model in training, which goes on training afterwards."""
    import torch

    tokenizer = processor.tokenizer
    true = [len(tokenizer(sample["messages"][1]["content"])["input_ids"]) for sample in samples]
    most = max(true) * 3 // 2
    texts: list[str] = []
    was_training = model.training
    model.eval()
    device = model.device
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            for start in range(0, len(samples), BATCH):
                encoded = encode(processor, samples[start : start + BATCH], instructions)
                tokens = model.generate(
                    **encoded.to(device),
                    max_new_tokens=most,
                    do_sample=False,
                    num_beams=1,
                    repetition_penalty=1.0,
                    use_cache=True,
                )
                new = tokens[:, encoded["input_ids"].shape[1] :]
                texts += processor.batch_decode(new, skip_special_tokens=True)
    finally:
        model.train(was_training)
    return texts


def encode(processor: Any, samples: Sequence[Mapping[str, Any]], instructions: Path) -> Any:
    """Questions as model inputs, the picture before the text as in training."""
    from PIL import Image

    images, texts = [], []
    for sample in samples:
        images.append(Image.open(instructions / sample["images"][0]).convert("RGB"))
        question = sample["messages"][0]["content"].removeprefix("<image>")
        system = {"role": "system", "content": [{"type": "text", "text": sample["system"]}]}
        content = [{"type": "image"}, {"type": "text", "text": question}]
        chat = [system, {"role": "user", "content": content}]
        texts.append(
            processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        )
    return processor(images=images, text=texts, padding=True, return_tensors="pt")
