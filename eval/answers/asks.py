"""What a model is asked about the frames, and what comes back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.answer import in_frame
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.types import Size


@dataclass(frozen=True)
class Ask:
    """One frame as the model is asked about it.

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


class Answer(NamedTuple):
    """What came back: the text as generated, seconds from asking to answer, tokens if counted."""

    text: str
    seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None


def read_asks(instructions: Path, inputs: str, part: str = "test") -> list[Ask]:
    """One part of the instruction data.

    Raises:
        DataError: the file is not what `data.prep.instruct` writes.
    """
    path = instructions / f"{inputs}_{part}.json"
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


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/4"` as (2, 4): the second of four parts.

    Raises:
        ConfigError: it is not of this form.
    """
    part, _, parts = text.partition("/")
    if not (part.isascii() and part.isdigit() and parts.isascii() and parts.isdigit()):
        raise ConfigError(f"--shard {text!r}: expected PART/PARTS, such as 1/4")
    if not 1 <= int(part) <= int(parts):
        raise ConfigError(f"--shard {text!r}: the part is not between 1 and {parts}")
    return int(part), int(parts)


def record(ask: Ask, answer: Answer) -> dict[str, Any]:
    """A line of predictions.jsonl: boxes of `text` in the camera's frame, of `model_text` as sent.

    `latency_s` is the time from asking to answer: of a batch for each of its frames.
    """
    return {
        "image_id": ask.id,
        "text": in_frame(answer.text, ask.frame, ask.original),
        "latency_s": round(answer.seconds, 4),
        "model_text": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
