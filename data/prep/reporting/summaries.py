"""What `report.json` counts of a set, and the same as a table on stdout."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data.prep.importers.faults import Fault, summary
from data.prep.importers.source_frame import Scan
from data.prep.importers.sources import SPLITS
from data.prep.pictures import tones
from data.prep.prepared.writer import Entry
from data.prep.splitting import assign
from data.prep.splitting.leaks import Link

PAPER_SPLIT = {"train": 10_469, "val": 1_004, "test": 649}
"""Frames of the public set, as the paper gives them."""


def of_set(
    entries: Sequence[Entry],
    scan: Scan,
    faults: Sequence[Fault],
    negatives_found: int,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Splits, classes, negatives and faults; `config` is that of the set's manifest."""
    return {
        "version": 1,
        "split": config["split"],
        "classes": ["accident"] if config["single_class"] else ["moderate", "severe"],
        "splits": {split: _counts(entries, split) for split in SPLITS},
        "published_split": _compared(scan.published, PAPER_SPLIT),
        "negatives": _negatives(entries, negatives_found, faults, config),
        "faults": summary(faults),
    }


def _counts(entries: Sequence[Entry], split: str) -> dict[str, int]:
    members = [e for e in entries if e.split == split]
    boxes = Counter(a.severity for e in members for a in e.accidents)
    negative = sum(e.negative for e in members)
    return {
        "frames": len(members),
        "accident_set": len(members) - negative,
        "negatives": negative,
        "moderate_boxes": boxes["moderate"],
        "severe_boxes": boxes["severe"],
    }


def _compared(found: dict[str, int], paper: dict[str, int]) -> dict[str, Any]:
    return {"found": found, "paper": paper, "is_the_papers": found == paper}


def _negatives(
    entries: Sequence[Entry], found: int, faults: Sequence[Fault], config: Mapping[str, Any]
) -> dict[str, Any]:
    split = Counter(e.split for e in entries if e.negative)
    return {
        "found": found,
        "exact_duplicates": sum(f.kind == "duplicate-negative" for f in faults),
        "kept": split.total(),
        "side": tones.SIDE,
        "gamma": tones.GAMMA,
        "split_by": "group" if config["leak_free"] else "clip" if config["negatives_by_clip"]
        else "frame",
        "split": _compared({name: split[name] for name in SPLITS}, assign.PAPER_SPLIT),
    }  # fmt: skip


def exact_across(across: Sequence[Link], entries: Sequence[Entry]) -> int:
    """Accident frames that are exact copies of a frame of another split."""
    exact = [link for link in across if link.kind == "exact"]
    return len({link.second for link in exact if not entries[link.second].negative})


def print_summary(report: dict[str, Any]) -> None:
    """The counts, leaks and faults as a short table on stdout."""
    columns = ("frames", "accident_set", "negatives", "moderate_boxes", "severe_boxes")
    print("[data] " + "".join(f"{c.replace('_', ' '):>16}" for c in ("split", *columns)))
    for split, counts in report["splits"].items():
        print("[data] " + f"{split:>16}" + "".join(f"{counts[c]:>16,}" for c in columns))
    negative, trace = report["negatives"], report["trace"]
    print(
        f"[data] negatives: {negative['found']} found, {negative['exact_duplicates']} exact "
        f"duplicates removed, {negative['kept']} kept; 640 x 640, gamma {negative['gamma']}"
    )
    for what, part in (("frames", report["published_split"]), ("negatives", negative["split"])):
        found, paper = ("/".join(map(str, part[k].values())) for k in ("found", "paper"))
        verdict = "the paper's split" if part["is_the_papers"] else f"the paper has {paper}"
        print(f"[data] {what} by split: {found or 'none of its own'}, {verdict}")
    print(f"[data] split used: {report['split']}; negatives split by {negative['split_by']}")
    for where, kinds in report["leaks"]["frames_with_a_twin"].items():
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        print(f"[data] leaks, frames of {where}: {told}")
    if trace:
        print(
            f"[data] uplink trace: {trace['file']} ({trace['form']}), {trace['seconds']:,} s, "
            f"mean {trace['mean_bytes_per_s']:,.0f} B/s"
        )
    for kind, count in report["faults"]["counts"].items():
        print(f"[data] fault {kind}: {count:,}, {report['faults']['rules'][kind]}")
