"""Ask a model in this process, or servers, about all frames of a row.

Each answer is written to disk as it comes, and a new run continues after those of an earlier one.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import write_json_lines
from dat_runtime.schema import judge
from eval.answers import endpoint, local, model, sizes, usage
from eval.answers.asks import Ask, record
from eval.answers.endpoint import Settings
from eval.answers.usage import Usage

Record = dict[str, Any]
"""A line of predictions.jsonl (`asks.record`)."""

REFUSED = "refused"
"""Key of the reason in a line of an unfinished file whose frame no server would answer."""


@dataclass(frozen=True)
class Row:
    """How the frames of a row are asked about.

    Attributes:
        name: begins each line of progress.
        model: folder, hub id, or name at the endpoints.
        endpoints: addresses of servers; empty for a model in this process.
        base: what the servers serve, if their prompts are to be compared with its own.
        batch_size: frames asked at once, of each endpoint.
    """

    name: str
    model: str
    revision: str | None
    adapter: Path | None
    endpoints: Sequence[str]
    base: str | None
    batch_size: int
    max_new_tokens: int
    constrained: local.Constrained


def ask_local(row: Row, asks: Sequence[Ask], path: Path) -> Usage:
    """Answers of a model in this process, each batch on disk before the next."""
    kept = {r["image_id"]: r for r in kept_records(path)}
    loaded = model.load(row.model, row.revision, row.adapter)
    model.demand_room(loaded, asks, row.max_new_tokens)
    batches = _batches(row, loaded, asks)
    # Whole batches only, so that the batches are those of a run that was not cut off.
    whole = [batch for batch in batches if all(ask.id in kept for ask in batch)]
    records = {ask.id: kept[ask.id] for batch in whole for ask in batch}
    write_json_lines(path, records.values())
    progress = _Progress(row.name, len(records), len(asks))
    with path.open("a", encoding="utf-8") as file:
        for batch in batches:
            if batch[0].id in records:
                continue
            answers = local.generate(loaded, batch, row.max_new_tokens, row.constrained)
            for ask, answer in zip(batch, answers, strict=True):
                records[ask.id] = record(ask, answer)
                file.write(_line(records[ask.id]))
            file.flush()
            progress.show(len(records))
    ordered = [records[ask.id] for ask in asks]
    write_json_lines(path, ordered)
    # Each frame states its batch's whole time, so one frame of each batch counts.
    busy = sum(records[batch[0].id]["latency_s"] for batch in batches)
    return usage.of(ordered, missing={}, prices={}, generation_s=busy)


def _batches(row: Row, loaded: model.Loaded, asks: Sequence[Ask]) -> list[list[Ask]]:
    """Questions of like length together, so that little is padding.

    The longest come first: what does not fit the memory fails before anything is answered.
    """
    tokens = {ask.id: sizes.prompt_tokens(loaded.processor, ask) for ask in asks}
    longest = max(tokens.values()) + row.max_new_tokens
    free = sizes.free_memory()
    cache = sizes.demand_cache(loaded.model, longest, min(row.batch_size, len(asks)), free)
    print(f"[{row.name}] keys and values of a batch: {cache / 1e9:.2f} GB at most", flush=True)
    ordered = sorted(asks, key=lambda ask: -tokens[ask.id])
    starts = range(0, len(ordered), row.batch_size)
    return [ordered[start : start + row.batch_size] for start in starts]


def ask_endpoints(row: Row, settings: Settings, asks: Sequence[Ask], path: Path) -> Usage:
    """Answers of servers, each on disk as it comes; at the end in the order of the frames."""
    records = {r["image_id"]: r for r in kept_records(path)}
    write_json_lines(path, records.values())
    left = [ask for ask in asks if ask.id not in records]
    demand_same = sizes.comparison(row.base, row.revision) if row.base else None
    missing = {id: records.pop(id)[REFUSED] for id in list(records) if REFUSED in records[id]}
    if demand_same:
        for ask in asks:
            if ask.id in records:
                demand_same(ask, records[ask.id]["prompt_tokens"], records[ask.id]["endpoint"])
    progress = _Progress(row.name, len(records), len(asks))
    key = os.environ.get("OPENAI_API_KEY")
    servers = endpoint.servers(row.endpoints, row.model, key, _request(row, settings))
    with path.open("a", encoding="utf-8") as file:
        for outcome in endpoint.answers(left, servers, row.batch_size):
            image_id = outcome.ask.id
            if outcome.answer is None:
                missing[image_id] = outcome.reason
                print(f"[{row.name}] {image_id}: {outcome.reason}", flush=True)
                if outcome.refused:  # a new start does not ask again
                    file.write(_line({"image_id": image_id, REFUSED: outcome.reason}))
                    file.flush()
                continue
            if demand_same:
                demand_same(outcome.ask, outcome.answer.prompt_tokens, outcome.url)
            if row.constrained:
                _demand_constrained(outcome)
            answered = record(outcome.ask, outcome.answer)
            answered["endpoint"] = outcome.url
            records[image_id] = answered
            file.write(_line(answered))
            file.flush()
            progress.show(len(records))
    ordered = [records[ask.id] for ask in asks if ask.id in records]
    write_json_lines(path, ordered)
    left_out = {url: sorted(server.left_out) for url, server in servers.items() if server.left_out}
    return usage.of(ordered, missing, settings.usd_per_million_tokens, left_out=left_out)


def _demand_constrained(outcome: endpoint.Outcome) -> None:
    """Refuse an answer that no constrained decoding gives: the row would be called constrained.

    Raises:
        ConfigError: a whole answer leaves the schema.
    """
    answer, frame = outcome.answer, outcome.ask.frame
    if answer is None or answer.cut:
        return
    if not judge(answer.text, frame.width, frame.height).schema:
        raise ConfigError(
            f"{outcome.url} ignores the schema that --constrained sends: its answer about "
            f"{outcome.ask.id} does not hold it. Ask without --constrained, or a server that "
            "constrains decoding (vLLM does)"
        )


def _request(row: Row, settings: Settings) -> Mapping[str, Any]:
    """The fields of each chat request; those of the settings replace ours."""
    request: dict[str, Any] = {"max_tokens": row.max_new_tokens}
    if row.constrained:
        request["response_format"] = endpoint.JSON_SCHEMA_FORMAT
    request.update(settings.request)
    return request


def kept_records(path: Path) -> list[Record]:
    """The records of an unfinished file, without a last line that was cut off.

    Raises:
        DataError: another line is broken.
    """
    if not path.is_file():
        return []
    # Not by files.read_json_lines: it refuses a line that is cut off, as it should elsewhere.
    *lines, _ = path.read_bytes().split(b"\n")
    return [_record(line, path, number) for number, line in enumerate(lines, 1)]


def _record(line: bytes, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
        record["image_id"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise DataError(
            "is no answer of an earlier run: take the line out, and its frame is asked about again",
            path,
            number,
        ) from None
    return record


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


class _Progress:
    """How many answers there are, printed every two seconds."""

    def __init__(self, name: str, done: int, total: int):
        self._name = name
        self._total = total
        self._printed = time.monotonic()
        if done:
            print(f"[{name}] {done} answers were there already", flush=True)

    def show(self, done: int) -> None:
        if time.monotonic() - self._printed > 2:
            self._printed = time.monotonic()
            print(f"[{self._name}] {done}/{self._total} answers", flush=True)
