"""`README.md` of a prepared set: a data card in Hugging Face's form."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.truth import SPLITS
from data.prep.importers.plain_yaml import plain_yaml
from data.prep.importers.sources import Sources
from data.prep.reporting.summaries import COLUMNS
from data.prep.splitting.leaks import KINDS
from data.prep.splitting.resolution import OUTCOMES

_PUBLIC = {
    "accidents": (
        "Accidents Detection Dataset (Kaggle amedeograndi/accidents-detection-dataset), "
        "if this is the paper's source"
    ),
    "negatives": (
        "Accident Detection From CCTV Footage "
        "(Kaggle ckay16/accident-detection-from-cctv-footage), if this is the paper's source"
    ),
    "trace": (
        "5G Traffic Datasets (Kaggle kimdaegyeom/5g-traffic-datasets), "
        "if this is the paper's source"
    ),
}


def write_card(folder: Path, report: Mapping[str, Any], sources: Sources) -> None:
    """Write the card. `load_dataset(<this folder>)` reads its front matter and needs no code."""
    frames = sum(counts["frames"] for counts in report["splits"].values())
    head = {
        "pretty_name": f"DAT accident frames, {report['split']} split",
        "license": "other",
        "license_name": "as-its-sources",
        "task_categories": ["object-detection"],
        "tags": ["traffic-accident", "image"],
        "size_categories": [_size_category(frames)],
        "configs": [{"config_name": "default", "data_files": list(map(_files_of, SPLITS))}],
    }
    front = yaml.safe_dump(head, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{front}---\n{_body(report, sources)}")


def _files_of(split: str) -> dict[str, Any]:
    """Where the `datasets` library finds a split."""
    return {
        "split": split,
        "path": [f"images/{split}/*.jpg", f"metadata/{split}/metadata.jsonl"],
    }


def _size_category(frames: int) -> str:
    """Hugging Face's category for a set of that size."""
    if frames < 1_000:
        return "n<1K"
    if frames < 10_000:
        return "1K<n<10K"
    if frames < 100_000:
        return "10K<n<100K"
    return "100K<n<1M"


def _body(report: Mapping[str, Any], sources: Sources) -> str:
    contents = "Frames with boxes of moderate and severe accidents"
    if any(counts["negatives"] for counts in report["splits"].values()):
        contents += ", accident-free frames as background"
    if report["trace"]:
        contents += ", and the\nuplink trace `bandwidth.csv`"
    return f"""
# Accident frames for DAT: {report["split"]} split

{contents}. Made by `python -m data.prep.build`; `manifest.json` holds the sha256
of every source and file. Open `report.html` to look at it. Scores on this set are scores on the
**{report["split"]}** split.

```python
from datasets import load_dataset
frames = load_dataset("<this folder>")   # image, image_id, width, height, objects, negative
```
`objects.bbox` is [x1, y1, x2, y2] in pixels; `objects.category` is 0 = moderate, 1 = severe.

## Splits and class balance

{_table(report)}

Classes of the YOLO labels: {", ".join(report["classes"])}. {_negatives(report)}

## Leaks between splits

{_leaks(report)}

## One picture, two truths

{_conflicts(report)}

## Faults found in the source

{_faults(report)}

## Provenance and licence

{_provenance(sources)}

Frames may show faces, number plates and broadcasters' marks: treat them as personal data. The
source's licences bind every copy of this set; none is granted here.
"""


def _negatives(report: Mapping[str, Any]) -> str:
    part = report["negatives"]
    if not part["found"]:
        return "There is no set of accident-free frames."
    side, removed = part["side"], part["exact_duplicates"]
    return (
        f"Negatives are split by\n{part['split_by']} ({side} x {side}, gamma {part['gamma']}, "
        f"{removed} exact duplicates removed)."
    )


def _table(report: Mapping[str, Any]) -> str:
    heads = [column.replace("_", " ") for column in COLUMNS]
    rows = {
        split: [counts[column] for column in COLUMNS] for split, counts in report["splits"].items()
    }
    return _markdown("split", heads, rows)


def _leaks(report: Mapping[str, Any]) -> str:
    twins = report["leaks"]["frames_with_a_twin"]
    rows = {where: [counts[kind] for kind in KINDS] for where, counts in twins.items()}
    return _markdown("frames of", KINDS, rows)


def _conflicts(report: Mapping[str, Any]) -> str:
    part = report["conflicts"]
    if not part["frames"]:
        return "None: no two frames of one picture contradict each other."
    rows = {split: list(counts.values()) for split, counts in part["outcomes"].items()}
    counts = _markdown("frames of", OUTCOMES, rows)
    return (
        f"{part['frames']:,} frames contradict another frame of the same picture "
        f"(`--on-conflict {part['on_conflict']}`);\n`conflicts.json` lists them. Those that are "
        f"still here are marked in the truth.\n\n{counts}"
    )


def _markdown(corner: str, heads: Sequence[str], rows: Mapping[str, Sequence[int]]) -> str:
    """A table of counts, one named row each."""
    lines = [f"| {corner} | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for name, counts in rows.items():
        cells = " | ".join(f"{count:,}" for count in counts)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _faults(report: Mapping[str, Any]) -> str:
    faults = report["faults"]
    if not faults["counts"]:
        return "None."
    lines = ["| kind | count | rule |", "| --- | ---: | --- |"]
    for kind, count in faults["counts"].items():
        lines.append(f"| {kind} | {count:,} | {faults['rules'][kind]} |")
    return "\n".join(lines)


def _provenance(sources: Sources) -> str:
    lines = []
    for part, path in sources.parts.items():
        lines.append(f"- {part}: `{sources.name(path)}`; {_PUBLIC[part]}. {_licence(path)}")
    return "\n".join(lines)


def _licence(path: Path) -> str:
    """The licence that a Roboflow export states, if the part is one."""
    data_yaml = path / "data.yaml"
    content = plain_yaml(data_yaml) if data_yaml.is_file() else None
    roboflow = content.get("roboflow") if isinstance(content, dict) else None
    stated = []
    if isinstance(roboflow, dict):
        for key in ("license", "url"):
            if roboflow.get(key):
                stated.append(f"{key} {str(roboflow[key])[:200]}")
    if not stated:
        return "Licence: not stated in the files; see the page that you took it from."
    return f"Stated in the export: {', '.join(stated)}."
