"""One row of Tables 1-2: a model's answers about the test frames.

    python -m eval.predict --instructions OUT/instructions --inputs boxed --model OUT/base \\
        --adapter OUT/lora-boxed --out OUT/predictions/boxed-lora
    python -m eval.predict --instructions OUT/instructions --inputs boxed --model gpt-5 \\
        --endpoint https://host/v1 --out OUT/predictions/gpt-5        (key in OPENAI_API_KEY)

Writes predictions.jsonl: image_id, text (boxes in original-frame pixels), latency_s (a batch's
whole time for each of its frames), model_text (as generated, boxes in pixels of the image sent).
Greedy, unconstrained decoding. A run that was cut off goes on without asking twice. A frame to
which an endpoint gave no answer is left out, so that scoring counts it as missing.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest, schema
from dat_runtime.edge.assess import AssessmentError, EndpointAssessor
from dat_runtime.errors import ConfigError, DataError, DatError, reports_errors
from dat_runtime.manifest import Stage
from dat_runtime.types import Size

FILE = "predictions.jsonl"
PATCH = 14
"""Side of the vision tower's patch, pixels."""


@dataclass(frozen=True)
class Ask:
    """One test frame as the model is asked about it.

    Attributes:
        image: PNG of exactly `frame`'s size.
        frame: size of the image sent; answers count its pixels.
        original: size of the camera's frame.
    """

    id: str
    image: Path
    system: str
    prompt: str
    frame: Size
    original: Size


Answer = tuple[str | None, float]
"""The text, `None` when none came, and the seconds from asking to answer."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    inputs = {"instructions": args.instructions}
    if args.adapter:
        inputs["adapter"] = args.adapter
    if Path(args.model).is_dir():
        inputs["model"] = Path(args.model)
    config = {
        "inputs": args.inputs,
        "model": "folder" if "model" in inputs else args.model,
        "revision": args.revision,
        "endpoint": args.endpoint,
        "batch_size": args.batch_size,
        "max_new_tokens": args.max_new_tokens,
    }
    stage = Stage(
        args.out,
        kind="predictions",
        inputs=inputs,
        config=config,
        code=[__file__],
        resumable=True,
    )
    if stage.up_to_date():
        return 0
    manifest.verify(args.instructions, "instructions")
    asks = read_asks(args.instructions, args.inputs)
    with stage as folder:
        done = kept_lines(folder / FILE, args.batch_size)
        left = asks[len(done) :] if not args.endpoint else _unanswered(asks, done)
        if done:
            print(f"[{args.out.name}] {len(done)} answers were there already", flush=True)
        answer = _endpoint(args) if args.endpoint else local_model(args)
        lines = answer_all(left, answer, args.batch_size, folder / FILE, done, args.out.name)
        missing = len(asks) - len(lines)
        if missing == len(asks):
            raise DatError(f"{args.model} answered none of {len(asks)} frames")
    if missing:
        print(f"[{args.out.name}] {missing} of {len(asks)} frames got no answer", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--inputs", choices=("boxed", "raw"), required=True)
    parser.add_argument("--model", required=True, help="folder, hub id, or name at the endpoint")
    parser.add_argument("--revision", help="of a model on the hub")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter folder (train.lora)")
    parser.add_argument("--endpoint", help="OpenAI-compatible server, such as http://host:8000/v1")
    parser.add_argument("--batch-size", type=int, default=16, help="frames asked at once (16)")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="of an answer (512)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.endpoint and args.adapter:
        raise ConfigError("--endpoint serves its own adapter: name it with --model")
    if args.batch_size < 1 or args.max_new_tokens < 1:
        raise ConfigError("--batch-size and --max-new-tokens must be at least 1")
    return args


def read_asks(instructions: Path, inputs: str) -> list[Ask]:
    """The test part of the instruction data.

    Raises:
        DataError: the file is not what `data.prep.instruct` writes.
    """
    path = instructions / f"{inputs}_test.json"
    try:
        return [
            Ask(
                id=sample["image_id"],
                image=instructions / sample["images"][0],
                system=sample["system"],
                prompt=sample["messages"][0]["content"].removeprefix("<image>"),
                frame=Size(*sample["frame"]),
                original=Size(*sample["original"]),
            )
            for sample in json.loads(path.read_text("utf-8"))
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"no instruction data ({error!r})", path) from None


def kept_lines(path: Path, batch_size: int) -> list[dict[str, Any]]:
    """The records of an unfinished file, whole batches only, so that batches stay the same."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines[: len(lines) // batch_size * batch_size]]


def _unanswered(asks: Sequence[Ask], done: Sequence[dict[str, Any]]) -> list[Ask]:
    answered = {record["image_id"] for record in done}
    return [ask for ask in asks if ask.id not in answered]


def answer_all(
    asks: Sequence[Ask],
    answer: Callable[[Sequence[Ask]], Sequence[Answer]],
    batch_size: int,
    path: Path,
    done: Sequence[dict[str, Any]],
    name: str,
) -> list[dict[str, Any]]:
    """Ask about every frame, batch by batch, each batch on disk before the next."""
    records = list(done)
    path.write_text("".join(map(_line, records)), "utf-8")
    noted = time.monotonic()
    for batch in _batches(asks, batch_size):
        new = [
            _record(ask, text, seconds)
            for ask, (text, seconds) in zip(batch, answer(batch), strict=True)
            if text is not None
        ]
        with path.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, new))
        records += new
        if time.monotonic() - noted > 2:
            noted = time.monotonic()
            print(f"[{name}] {len(records)}/{len(done) + len(asks)} answers", flush=True)
    return records


def _batches(asks: Sequence[Ask], size: int) -> Iterator[Sequence[Ask]]:
    for start in range(0, len(asks), size):
        yield asks[start : start + size]


def _record(ask: Ask, text: str, seconds: float) -> dict[str, Any]:
    return {
        "image_id": ask.id,
        "text": schema.in_frame(text, ask.frame, ask.original),
        "latency_s": round(seconds, 4),
        "model_text": text,
    }


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _endpoint(args: argparse.Namespace) -> Callable[[Sequence[Ask]], Sequence[Answer]]:
    """Answers of a server, `batch_size` requests at a time."""
    from concurrent.futures import ThreadPoolExecutor

    key = os.environ.get("OPENAI_API_KEY")
    try:
        assessor = EndpointAssessor(args.endpoint, args.model, api_key=key, timeout=120, tries=5)
    except ValueError as error:
        raise ConfigError(str(error)) from None

    def one(ask: Ask) -> Answer:
        started = time.monotonic()
        try:
            text = assessor.assess(ask.image.read_bytes(), ask.system, ask.prompt)
        except AssessmentError as error:
            print(f"[{args.out.name}] {ask.id}: {error}", flush=True)
            return None, time.monotonic() - started
        return text, time.monotonic() - started

    def answer(batch: Sequence[Ask]) -> Sequence[Answer]:
        with ThreadPoolExecutor(args.batch_size) as threads:
            return list(threads.map(one, batch))

    return answer


def local_model(args: argparse.Namespace) -> Callable[[Sequence[Ask]], Sequence[Answer]]:
    """Answers of a model in this process, one padded batch at a time.

    Raises:
        ConfigError: model or adapter cannot be loaded.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    cuda = torch.cuda.is_available()
    try:
        processor = transformers.AutoProcessor.from_pretrained(args.model, revision=args.revision)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            args.model,
            revision=args.revision,
            dtype=torch.bfloat16 if cuda else torch.float32,
            attn_implementation="sdpa",
        )
        if args.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(args.adapter))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot load {args.model} with {args.adapter}: {error}") from None
    model = model.to("cuda" if cuda else "cpu").eval()
    processor.tokenizer.padding_side = "left"

    def answer(batch: Sequence[Ask]) -> Sequence[Answer]:
        started = time.monotonic()
        encoded = encode(processor, batch).to(model.device)
        with torch.inference_mode():
            tokens = model.generate(**encoded, max_new_tokens=args.max_new_tokens, do_sample=False)
        new = tokens[:, encoded["input_ids"].shape[1] :]
        texts = processor.batch_decode(new, skip_special_tokens=True)
        seconds = time.monotonic() - started
        return [(text, seconds) for text in texts]

    return answer


def encode(processor: Any, batch: Sequence[Ask]) -> Any:
    """The batch as model inputs, the images at their stored sizes.

    Raises:
        ConfigError: the processor would resize an image, so that coordinates would no longer fit.
    """
    from PIL import Image

    images = [Image.open(ask.image).convert("RGB") for ask in batch]
    texts = [
        processor.apply_chat_template(
            [
                {"role": "system", "content": [{"type": "text", "text": ask.system}]},
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": ask.prompt}],
                },
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        for ask in batch
    ]
    encoded = processor(images=images, text=texts, padding=True, return_tensors="pt")
    for ask, (_, rows, columns) in zip(batch, encoded["image_grid_thw"].tolist(), strict=True):
        if (columns * PATCH, rows * PATCH) != (ask.frame.width, ask.frame.height):
            raise ConfigError(
                f"{ask.image} is {ask.frame.width} x {ask.frame.height}, the model's processor "
                f"makes it {columns * PATCH} x {rows * PATCH}: make the instruction data with a "
                "smaller --max-pixels, or raise the processor's pixel limit"
            )
    return encoded


if __name__ == "__main__":
    raise SystemExit(main())
