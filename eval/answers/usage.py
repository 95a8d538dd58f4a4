"""What a row of answers took: tokens, money, time, and the frames that got no answer."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.files import write_atomically

FILE = "usage.json"


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
    """

    answered: int
    missing: dict[str, str]
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    usd: float | None
    generation_s: float | None
    endpoints: dict[str, int]


def of(
    records: Sequence[Mapping[str, Any]],
    missing: Mapping[str, str],
    prices: Mapping[str, float],
    generation_s: float | None = None,
) -> Usage:
    """The sums over lines of predictions.jsonl; `prices` in USD per million tokens."""
    counted = [r for r in records if None not in (r["prompt_tokens"], r["completion_tokens"])]
    prompt = sum(r["prompt_tokens"] for r in counted)
    completion = sum(r["completion_tokens"] for r in counted)
    usd = None
    if prices:
        usd = (prompt * prices["prompt"] + completion * prices["completion"]) / 1e6
    return Usage(
        answered=len(records),
        missing=dict(missing),
        prompt_tokens=prompt,
        completion_tokens=completion,
        uncounted=len(records) - len(counted),
        usd=None if usd is None else round(usd, 6),
        generation_s=None if generation_s is None else round(generation_s, 4),
        endpoints=dict(sorted(Counter(r["endpoint"] for r in records if "endpoint" in r).items())),
    )


def merged(parts: Sequence[Usage]) -> Usage:
    """The usage of several shards together; generation times add up, as machine time."""

    def total(values: Sequence[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return sum(known) if len(known) == len(parts) else None

    endpoints: Counter[str] = Counter()
    for part in parts:
        endpoints.update(part.endpoints)
    return Usage(
        answered=sum(p.answered for p in parts),
        missing={k: v for p in parts for k, v in p.missing.items()},
        prompt_tokens=sum(p.prompt_tokens for p in parts),
        completion_tokens=sum(p.completion_tokens for p in parts),
        uncounted=sum(p.uncounted for p in parts),
        usd=total([p.usd for p in parts]),
        generation_s=total([p.generation_s for p in parts]),
        endpoints=dict(sorted(endpoints.items())),
    )


def write(folder: Path, usage: Usage) -> None:
    write_atomically(folder / FILE, json.dumps(asdict(usage), indent=1) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The usage.json of a row.

    Raises:
        DataError: it is missing or not what `write` writes.
    """
    path = folder / FILE
    try:
        return asdict(Usage(**json.loads(path.read_text("utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"is not a usage file ({error})", path) from None


def summary(usage: Usage) -> list[str]:
    """What was missing and what it took, for the terminal."""
    lines = []
    if usage.missing:
        asked = usage.answered + len(usage.missing)
        lines.append(
            f"{len(usage.missing)} of {asked} frames got no answer; they count as failed "
            "(--ask-missing asks again)"
        )
    cost = "" if usage.usd is None else f", {usage.usd:.4f} USD"
    blank = f" ({usage.uncounted} answers uncounted)" if usage.uncounted else ""
    lines.append(
        f"{usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens{blank}{cost}"
    )
    return lines
