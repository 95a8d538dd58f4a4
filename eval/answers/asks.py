"""What a model is asked about the frames, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.answer import in_frame
from dat_runtime.errors import DataError
from dat_runtime.files import read_json
from dat_runtime.types import Size


@dataclass(frozen=True)
class Ask:
    """One frame as the model is asked about it.

    Attributes:
        image: JPEG or PNG, sent as it is.
        frame: in which prompt and answer count; for Qwen2.5-VL the size of the image.
        original: size of the camera's frame.
        truth: the true answer, as the model would have to give it; empty where none is known.
    """

    id: str
    image: Path
    system: str
    prompt: str
    frame: Size
    original: Size
    truth: str = ""

    @property
    def size(self) -> Size:
        """Of the image, pixels, as its header states it.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no picture.
        """
        from dat_runtime.edge.source import header_size

        return header_size(self.image.read_bytes())

    def png(self) -> bytes:
        """The image's pixels for an endpoint, whichever decoder that has.

        Raises:
            OSError: the file cannot be read.
        """
        from dat_runtime.draw import seen_as_png

        return seen_as_png(self.image.read_bytes())


class Answer(NamedTuple):
    """What came back: the text as generated, the seconds it took, and its tokens if counted.

    Attributes:
        cut: it ran into the limit of tokens, so its end is missing.
    """

    text: str
    seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cut: bool = False


def read_asks(instructions: Path, inputs: str, part: str = "test") -> list[Ask]:
    """One part of the instruction data.

    Raises:
        DataError: the file is not what `data.prep.instruct` writes.
    """
    path = part_file(instructions, inputs, part)
    samples = read_json(path, missing=f"data.prep.instruct --inputs {inputs} makes it")
    try:
        return [_ask(sample, instructions) for sample in samples]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"is not instruction data ({error!r})", path) from None


def part_file(instructions: Path, inputs: str, part: str) -> Path:
    """Where one part of the instruction data lies."""
    return instructions / f"{inputs}_{part}.json"


def _ask(sample: dict[str, Any], instructions: Path) -> Ask:
    return Ask(
        id=sample["image_id"],
        image=instructions / sample["images"][0],
        system=sample["system"],
        # <image> is the template's place for the picture, which is sent beside the text here.
        prompt=sample["messages"][0]["content"].removeprefix("<image>"),
        frame=Size(*sample["frame"]),
        original=Size(*sample["original"]),
        truth="".join(turn["content"] for turn in sample["messages"][1:2]),
    )


def longest_answer(asks: Sequence[Ask]) -> int:
    """Bytes of the longest true answer.

    No tokenizer makes more tokens of it than it has bytes; Qwen2.5-VL's makes about half as many.
    """
    return max(len(ask.truth.encode()) for ask in asks)


def record(ask: Ask, answer: Answer) -> dict[str, Any]:
    """A line of predictions.jsonl.

    Boxes of `text` are in pixels of the camera's frame, those of `model_text` as the model counts
    them. `latency_s` is the time from question to answer; frames of a batch share its time.
    An answer that was cut says so.
    """
    cut = {"cut": True} if answer.cut else {}
    return {
        "image_id": ask.id,
        "text": in_frame(answer.text, ask.frame, ask.original),
        "latency_s": round(answer.seconds, 4),
        "model_text": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        **cut,
    }
