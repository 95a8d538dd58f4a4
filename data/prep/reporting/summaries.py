"""The counts of a set for `report.json`, and the same as a table on stdout."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dat_runtime.truth import SPLITS
from data.prep.importers.faults import Fault, summary
from data.prep.importers.source_frame import Scan
from data.prep.pictures import tones
from data.prep.prepared.kept import Kept
from data.prep.splitting import assign
from data.prep.splitting.leaks import Link

PAPER_FRAMES = {"train": 10_469, "val": 1_004, "test": 649}
"""Frames of the public set in each split, as the paper states them (section 4.1)."""

COLUMNS = ("frames", "accident_set", "negatives", "moderate_boxes", "severe_boxes")
"""The counts of each split."""


def of_set(
    kept: Sequence[Kept],
    scan: Scan,
    faults: Sequence[Fault],
    negatives_found: int,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Splits, classes, negatives and faults; `config` is the one of the set's manifest."""
    return {
        "version": 1,
        "split": config["split"],
        "classes": ["accident"] if config["single_class"] else ["moderate", "severe"],
        "splits": {split: _counts(kept, split) for split in SPLITS},
        "published_split": _compared(scan.published, PAPER_FRAMES),
        "negatives": _negatives(kept, negatives_found, faults, config),
        "faults": summary(faults),
    }


def _counts(kept: Iterable[Kept], split: str) -> dict[str, int]:
    members = [frame for frame in kept if frame.split == split]
    negatives = sum(frame.negative for frame in members)
    boxes: Counter[str] = Counter()
    for frame in members:
        boxes.update(accident.severity for accident in frame.accidents)
    return {
        "frames": len(members),
        "accident_set": len(members) - negatives,
        "negatives": negatives,
        "moderate_boxes": boxes["moderate"],
        "severe_boxes": boxes["severe"],
    }


def _compared(counts: dict[str, int], paper: dict[str, int]) -> dict[str, Any]:
    return {"found": counts, "paper": paper, "is_the_papers": counts == paper}


def _negatives(
    kept: Iterable[Kept], found: int, faults: Iterable[Fault], config: Mapping[str, Any]
) -> dict[str, Any]:
    counts = Counter(frame.split for frame in kept if frame.negative)
    split_by = "frame"
    if config["leak_free"]:
        split_by = "group"
    elif config["negatives_by_clip"]:
        split_by = "clip"
    return {
        "found": found,
        "exact_duplicates": sum(fault.kind == "duplicate-negative" for fault in faults),
        "kept": counts.total(),
        "side": tones.SIDE,
        "gamma": tones.GAMMA,
        "split_by": split_by,
        "split": _compared({split: counts[split] for split in SPLITS}, assign.PAPER_NEGATIVES),
    }


def exact_across(across: Iterable[Link], kept: Sequence[Kept]) -> int:
    """Accident frames that are exact copies of a frame of another split."""
    copies = {link.second for link in across if link.kind == "exact"}
    return sum(not kept[index].negative for index in copies)


def split_counts(part: Mapping[str, Any]) -> tuple[str, str]:
    """The counts of a compared split and the paper's, each as text: train/val/test.

    The first is empty if the source has no splits.
    """
    return _slashed(part["found"]), _slashed(part["paper"])


def _slashed(counts: Mapping[str, int]) -> str:
    return "/".join(f"{count:,}" for count in counts.values())


def print_summary(report: Mapping[str, Any]) -> None:
    """The counts, leaks and faults as a short table on stdout."""
    heads = "".join(f"{column.replace('_', ' '):>16}" for column in COLUMNS)
    print(f"[data] {'split':>16}{heads}")
    for split, counts in report["splits"].items():
        cells = "".join(f"{counts[column]:>16,}" for column in COLUMNS)
        print(f"[data] {split:>16}{cells}")

    negative = report["negatives"]
    print(
        f"[data] negatives: {negative['found']} found, {negative['exact_duplicates']} exact "
        f"duplicates removed, {negative['kept']} kept; 640 x 640, gamma {negative['gamma']}"
    )
    _print_compared("frames", report["published_split"])
    _print_compared("negatives", negative["split"])
    print(f"[data] split used: {report['split']}; negatives split by {negative['split_by']}")

    for where, kinds in report["leaks"]["frames_with_a_twin"].items():
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        print(f"[data] leaks, frames of {where}: {counts}")
    _print_conflicts(report["conflicts"])
    trace = report["trace"]
    if trace:
        print(
            f"[data] uplink trace: {trace['file']} ({trace['form']}), {trace['seconds']:,} s, "
            f"mean {trace['mean_bytes_per_s']:,.0f} B/s"
        )
        for note in trace["notes"]:
            print(f"[data] uplink trace: {note}")
    faults = report["faults"]
    for kind, count in faults["counts"].items():
        print(f"[data] fault {kind}: {count:,}, {faults['rules'][kind]}")


def _print_conflicts(part: Mapping[str, Any]) -> None:
    if not part["frames"]:
        print("[data] one picture with two truths: none")
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in part["kinds"].items())
    print(f"[data] one picture with two truths: {part['frames']:,} frames ({kinds})")
    for split, outcomes in part["outcomes"].items():
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
        print(f"[data] one picture with two truths, {split}: {counts}")


def _print_compared(what: str, part: Mapping[str, Any]) -> None:
    counts, paper = split_counts(part)
    verdict = "the paper's split" if part["is_the_papers"] else f"the paper has {paper}"
    print(f"[data] {what} by split: {counts or 'none of its own'}, {verdict}")
