"""The usage of a row of answers: tokens, money, time, and the frames that got no answer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dat_runtime import fields
from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_json

FILE = "usage.json"

_USAGE = {
    "answered": fields.whole(0),
    "missing": fields.OBJECT,
    "prompt_tokens": fields.whole(0),
    "completion_tokens": fields.whole(0),
    "uncounted": fields.whole(0),
    "usd": fields.optional(fields.number(0)),
    "generation_s": fields.optional(fields.number(0)),
    "endpoints": fields.OBJECT,
    "cut": fields.whole(0),
    "left_out": fields.OBJECT,
}


@dataclass(frozen=True)
class Usage:
    """The contents of usage.json.

    Attributes:
        answered: frames with an answer.
        missing: image id -> reason, of the frames without one.
        prompt_tokens, completion_tokens: sums over the answers that were counted.
        uncounted: answers whose tokens the server did not state.
        usd: price of the counted tokens; `None` without prices.
        generation_s: seconds in which a local model generated; `None` behind an endpoint.
        endpoints: address -> answers that it gave.
        cut: answers that ran into the limit of tokens.
        left_out: address -> fields of the decoding that the server refused.
    """

    answered: int
    missing: dict[str, str]
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    usd: float | None
    generation_s: float | None
    endpoints: dict[str, int]
    cut: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)


def of(
    records: Sequence[Mapping[str, Any]],
    missing: Mapping[str, str],
    prices: Mapping[str, float],
    generation_s: float | None = None,
    left_out: Mapping[str, list[str]] | None = None,
) -> Usage:
    """The sums over lines of predictions.jsonl; `prices` in USD per million tokens."""
    counted = [r for r in records if None not in (r["prompt_tokens"], r["completion_tokens"])]
    prompt = sum(r["prompt_tokens"] for r in counted)
    completion = sum(r["completion_tokens"] for r in counted)
    usd = None
    if prices:
        usd = round((prompt * prices["prompt"] + completion * prices["completion"]) / 1e6, 6)
    if generation_s is not None:
        generation_s = round(generation_s, 4)
    endpoints = Counter(r["endpoint"] for r in records if "endpoint" in r)
    return Usage(
        answered=len(records),
        missing=dict(missing),
        prompt_tokens=prompt,
        completion_tokens=completion,
        uncounted=len(records) - len(counted),
        usd=usd,
        generation_s=generation_s,
        endpoints=dict(sorted(endpoints.items())),
        cut=sum("cut" in r for r in records),
        left_out=dict(left_out or {}),
    )


def merged(parts: Sequence[Usage]) -> Usage:
    """The usage of several shards together; generation times add up, as machine time."""
    missing: dict[str, str] = {}
    endpoints: Counter[str] = Counter()
    for part in parts:
        missing.update(part.missing)
        endpoints.update(part.endpoints)
    return Usage(
        answered=sum(part.answered for part in parts),
        missing=missing,
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        completion_tokens=sum(part.completion_tokens for part in parts),
        uncounted=sum(part.uncounted for part in parts),
        usd=_total([part.usd for part in parts]),
        generation_s=_total([part.generation_s for part in parts]),
        endpoints=dict(sorted(endpoints.items())),
        cut=sum(part.cut for part in parts),
        left_out={url: names for part in parts for url, names in part.left_out.items()},
    )


def _total(values: Sequence[float | None]) -> float | None:
    """The sum, or `None` where one of the values is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def write(folder: Path, usage: Usage) -> None:
    """Write usage.json into the folder of a row."""
    write_json(folder / FILE, asdict(usage))


def read(folder: Path) -> Usage:
    """The usage.json of a row.

    Raises:
        DataError: it is missing or not what `write` writes.
    """
    path = folder / FILE
    content = read_json(path)
    try:
        return Usage(**fields.checked(content, _USAGE, "", optional_keys=("cut", "left_out")))
    except ValueError as error:
        raise DataError(f"is not a usage file ({error})", path) from None


def summary(usage: Usage) -> list[str]:
    """What is missing, and the tokens and the money it took, for the terminal."""
    lines = []
    if usage.missing:
        asked = usage.answered + len(usage.missing)
        lines.append(
            f"{len(usage.missing)} of {asked} frames got no answer; they count as failed "
            "(--ask-missing asks again)"
        )
    if usage.cut:
        lines.append(
            f"{usage.cut} answers were cut at the limit of tokens (--max-new-tokens raises it)"
        )
    for url, names in usage.left_out.items():
        lines.append(f"{url} refuses {', '.join(names)}: asked without")
    tokens = f"{usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens"
    if usage.uncounted:
        tokens += f" ({usage.uncounted} answers uncounted)"
    if usage.usd is not None:
        tokens += f", {usage.usd:.4f} USD"
    lines.append(tokens)
    return lines
