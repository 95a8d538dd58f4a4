"""What answers are worth by the way that the picture came: the rows of `accuracy.json`."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.files import read_json_lines, write_json_lines
from dat_runtime.truth import Frame
from eval.answers import local
from eval.answers.asks import Ask, record
from eval.answers.model import Loaded
from eval.offloading.ways import Way
from eval.understanding.metrics import Measures, difference, measure, score

METRICS = ("count_em", "sev_f1", "bbox_miou")

GOAL_BYTES = 8192
"""Pictures up to here are what a code is to beat."""

GOAL_METRICS = ("count_em", "sev_f1")


def answers(
    loaded: Loaded, way: Way, asks: Sequence[Ask], limit: int, batch_size: int, name: str
) -> list[dict[str, Any]]:
    """Lines of predictions.jsonl for all asks, with the bytes that each picture took.

    Args:
        limit: most tokens of an answer.
        name: the progress lines begin with it.
    """
    from train.offloading.tower import cut, tower_of

    records: list[dict[str, Any]] = []
    printed = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(asks), batch_size):
            batch = asks[start : start + batch_size]
            seen = way.asks(batch, Path(folder))
            if way.change is None:
                given = local.generate(loaded, seen, limit)
            else:
                with cut(tower_of(loaded.model), way.block, way.change):
                    given = local.generate(loaded, seen, limit)
            records += [record(ask, answer) for ask, answer in zip(batch, given, strict=True)]
            if time.monotonic() - printed > 5:
                printed = time.monotonic()
                print(f"[{name}] {way.name}: {len(records)}/{len(asks)}", flush=True)
    for line, size in zip(records, way.sizes, strict=True):
        line["bytes"] = size
    return records


def kept_answers(
    path: Path,
    loaded: Loaded,
    way: Way,
    asks: Sequence[Ask],
    limit: int,
    batch_size: int,
    name: str,
) -> list[dict[str, Any]]:
    """The same, from the file of an earlier start if it is there; else written to it."""
    if not path.is_file():
        write_json_lines(path, answers(loaded, way, asks, limit, batch_size, name))
    return [line for _, line in read_json_lines(path)]


def row(way: Way, records: Sequence[Mapping[str, Any]], measures: Measures) -> dict[str, Any]:
    """A row of accuracy.json; `bytes` is the mean."""
    sizes = [line["bytes"] for line in records]
    scored = score(measures)
    return {
        "name": way.name,
        "kind": way.kind,
        "bytes": round(sum(sizes) / len(sizes), 1),
        "bytes_max": max(sizes),
        "channels": way.channels,
        "quality": way.quality,
        **{metric: scored[metric]._asdict() for metric in METRICS},
        "n": len(records),
    }


def measures_of(records: Sequence[Mapping[str, Any]], frames: Sequence[Frame]) -> Measures:
    """The answers against the truth of their frames."""
    texts = {line["image_id"]: line["text"] for line in records}
    return measure(frames, [texts.get(frame.image_id) for frame in frames])


def picture_matters(whole: Measures, nothing: Measures) -> dict[str, Any]:
    """Whether answers depend on the picture at all: those about it less those about a grey one.

    Where they do not, they tell no way from another, however few its bytes.
    """
    found = difference(whole, nothing)
    compared = {metric: found[metric]._asdict() for metric in METRICS}
    matters = any((compared[metric]["low"] or 0.0) > 0 for metric in METRICS)
    return {**compared, "matters": matters}


def goal(
    rows: Sequence[Mapping[str, Any]], measures: Mapping[str, Measures], most_bytes: int
) -> dict[str, Any] | None:
    """The largest code of at most `most_bytes` beside every picture of up to 8 kB.

    The code's header is not counted. Differences are the code's less the picture's, by paired
    bootstrap. A picture is beaten in a metric where the whole interval lies above 0, and beats the
    code where it lies below.
    """
    from dat_runtime.offload import HEADER_BYTES

    codes = [r for r in rows if r["kind"] == "code" and r["bytes"] <= most_bytes + HEADER_BYTES]
    if not codes:
        return None
    ours = max(codes, key=lambda r: r["bytes"])
    against = []
    for other in rows:
        if other["kind"] not in ("jpeg", "webp") or other["bytes"] > GOAL_BYTES:
            continue
        found = difference(measures[ours["name"]], measures[other["name"]])
        compared = {metric: found[metric]._asdict() for metric in GOAL_METRICS}
        against.append({"name": other["name"], "bytes": other["bytes"], **compared})
    return {
        "code": ours["name"],
        "bytes": ours["bytes"],
        "against": against,
        "beaten": [o["name"] for o in against if all(o[m]["low"] > 0 for m in GOAL_METRICS)],
        "higher": [o["name"] for o in against if all(o[m]["value"] > 0 for m in GOAL_METRICS)],
        "lost": [o["name"] for o in against if any(o[m]["high"] < 0 for m in GOAL_METRICS)],
    }
