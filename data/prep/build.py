"""Prepare the set: `python -m data.prep.build --source SRC --out OUT/data [--strict] [--seed 0]`.

SRC holds the public sets (see `sources.find_sources`) and is never changed. Faults are repaired or
refused by the rules of `faults.RULES` and listed in `report.json`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.manifest import Stage
from data.prep import accidents, negatives, traces, yolo
from data.prep.faults import Fault, refuse, summary
from data.prep.sources import SPLITS, Sources, find_sources, read_data_yaml

_CODE = sorted(
    Path(__file__).with_name(f"{module}.py")
    for module in (
        "accidents", "build", "faults", "images", "labels", "negatives", "sources", "traces", "yolo"
    )
)  # fmt: skip


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data.prep.build", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder with the public sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--strict", action="store_true", help="refuse every fault, repair none")
    parser.add_argument("--seed", type=int, default=0, help="of the negatives' split (default 0)")
    args = parser.parse_args(argv)
    sources = find_sources(args.source)
    _keep_apart(args.out, sources)
    stage = Stage(
        args.out,
        kind="data",
        inputs={
            "accidents": sources.accidents,
            "negatives": sources.negatives,
            "trace": sources.trace,
        },
        config={"seed": args.seed, "strict": args.strict},
        code=_CODE,
    )
    if not stage.up_to_date():
        with stage as folder:
            report = build(sources, folder, strict=args.strict, seed=args.seed)
        print_summary(report)
    return 0


def _keep_apart(out: Path, sources: Sources) -> None:
    """The output folder is replaced as a whole, so it may not touch the source."""
    made = out.resolve()
    for part in (sources.root, sources.accidents, sources.negatives, sources.trace):
        kept = part.resolve()
        if made == kept or made in kept.parents or kept in made.parents:
            raise ConfigError(f"--out {out} and the source {part} may not lie in each other")


def build(sources: Sources, folder: Path, *, strict: bool, seed: int) -> dict[str, Any]:
    """Write the set into `folder`; returns what is also in its `report.json`.

    Raises:
        DataError: a fault that is refused, with file and line; or a split without frames.
    """
    data_yaml = sources.accidents / "data.yaml"
    names, faults = read_data_yaml(data_yaml, sources.name(data_yaml))
    ids = yolo.Ids()
    frames, found, published = accidents.scan(sources, names, ids)
    faults += found
    refuse(faults, sources.root, strict)
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    entries, found, first = accidents.write_frames(frames, folder)
    faults += found
    refuse(faults, sources.root, strict)
    seen = {content: frame.file for content, frame in first.items()}
    background, found, candidates = negatives.write_negatives(sources, folder, ids, seen, seed)
    faults += found
    refuse(faults, sources.root, strict)
    _demand_frames(sources, entries, background)
    entries += background
    yolo.write_set(folder, entries)
    report = {
        "version": 1,
        "splits": {split: _counts(entries, split) for split in SPLITS},
        "published_split": _compared(published, accidents.PAPER_SPLIT),
        "negatives": _negatives(background, candidates, found),
        "exact_copies_across_splits": _across(faults),
        "trace": _write_bandwidth(sources, folder / "bandwidth.csv"),
        "faults": summary(faults),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _demand_frames(
    sources: Sources, entries: Sequence[yolo.Entry], background: Sequence[yolo.Entry]
) -> None:
    for split in SPLITS:
        if not any(e.split == split for e in entries):
            raise DataError("no usable frame in this split", sources.accident_folder(split))
    if not background:
        raise DataError("no usable accident-free frame", sources.negatives)


def _counts(entries: Sequence[yolo.Entry], split: str) -> dict[str, int]:
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


def _negatives(kept: Sequence[yolo.Entry], candidates: int, faults: list[Fault]) -> dict[str, Any]:
    split = Counter(e.split for e in kept)
    return {
        "found": candidates,
        "exact_duplicates": sum(f.kind == "duplicate-negative" for f in faults),
        "kept": len(kept),
        "side": negatives.SIDE,
        "gamma": negatives.GAMMA,
        "split": _compared({name: split[name] for name in SPLITS}, negatives.PAPER_SPLIT),
    }


def _across(faults: Sequence[Fault]) -> int:
    """Accident frames that are exact copies of a frame of another split: a leak, kept but told."""
    copies = [f for f in faults if f.kind == "duplicate-frame"]
    return sum(f.detail.endswith("of another split") for f in copies)


def _write_bandwidth(sources: Sources, path: Path) -> dict[str, Any]:
    uplink = traces.read_uplink(sources.trace)
    rows = (f"{second},{value:.15g}\n" for second, value in enumerate(uplink))
    path.write_text("second,uplink_bytes_per_s\n" + "".join(rows))
    return {
        "file": sources.name(sources.trace),
        "form": traces.form(sources.trace),
        "seconds": len(uplink),
        "mean_bytes_per_s": round(sum(uplink) / len(uplink), 1),
        "not_used": [sources.name(other) for other in sources.other_traces],
    }


def print_summary(report: dict[str, Any]) -> None:
    """The counts and faults as a short table on stdout."""
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
        print(f"[data] {what} by split: {found}, {verdict}")
    print(
        f"[data] exact copies across splits: {report['exact_copies_across_splits']} accident frames"
    )
    print(
        f"[data] uplink trace: {trace['file']} ({trace['form']}), {trace['seconds']:,} s, "
        f"mean {trace['mean_bytes_per_s']:,.0f} B/s"
    )
    for kind, count in report["faults"]["counts"].items():
        print(f"[data] fault {kind}: {count:,}, {report['faults']['rules'][kind]}")


if __name__ == "__main__":
    raise SystemExit(main())
