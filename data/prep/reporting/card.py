"""`README.md` of a prepared set: a data card in Hugging Face's form."""

from pathlib import Path
from typing import Any

import yaml

from data.prep.importers.classes import plain_yaml
from data.prep.importers.sources import SPLITS, Sources

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


def write_card(folder: Path, report: dict[str, Any], sources: Sources) -> None:
    """The card; `load_dataset(<this folder>)` reads its front matter and needs no code."""
    head = {
        "pretty_name": f"DAT accident frames, {report['split']} split",
        "license": "other",
        "license_name": "as-its-sources",
        "task_categories": ["object-detection"],
        "tags": ["traffic-accident", "image"],
        "size_categories": [_size(sum(s["frames"] for s in report["splits"].values()))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {
                        "split": split,
                        "path": [f"images/{split}/*.jpg", f"metadata/{split}/metadata.jsonl"],
                    }
                    for split in SPLITS
                ],
            }
        ],
    }
    front = yaml.safe_dump(head, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{front}---\n{_body(report, sources)}")


def _size(frames: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for bound, name in bounds if frames < bound), "100K<n<1M")


def _body(report: dict[str, Any], sources: Sources) -> str:
    return f"""
# Accident frames for DAT: {report["split"]} split

Frames with boxes of moderate and severe accidents, accident-free frames as background, and the
uplink trace `bandwidth.csv`. Made by `python -m data.prep.build`; `manifest.json` holds the sha256
of every source and file. Open `report.html` to look at it. Scores on this set are scores on the
**{report["split"]}** split.

```python
from datasets import load_dataset
frames = load_dataset("<this folder>")   # image, image_id, width, height, objects, negative
```
`objects.bbox` is [x1, y1, x2, y2] in pixels; `objects.category` is 0 = moderate, 1 = severe.

## Splits and class balance

{_table(report)}

Classes of the YOLO labels: {", ".join(report["classes"])}. Negatives are split by
{report["negatives"]["split_by"]} (640 x 640, gamma {report["negatives"]["gamma"]},
{report["negatives"]["exact_duplicates"]} exact duplicates removed).

## Leaks between splits

{_leaks(report)}

## Faults found in the source

{_faults(report)}

## Provenance and licence

{_provenance(report, sources)}

Frames may show faces, number plates and broadcasters' marks: treat them as personal data. The
source's licences bind every copy of this set; none is granted here.
"""


def _table(report: dict[str, Any]) -> str:
    columns = ("frames", "accident_set", "negatives", "moderate_boxes", "severe_boxes")
    lines = [
        "| split | " + " | ".join(c.replace("_", " ") for c in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for split, counts in report["splits"].items():
        lines.append(f"| {split} | " + " | ".join(f"{counts[c]:,}" for c in columns) + " |")
    return "\n".join(lines)


def _leaks(report: dict[str, Any]) -> str:
    rows = report["leaks"]["frames_with_a_twin"]
    kinds = list(next(iter(rows.values())))
    lines = ["| frames of | " + " | ".join(kinds) + " |", "| --- |" + " ---: |" * len(kinds)]
    for where, counts in rows.items():
        lines.append(f"| {where} | " + " | ".join(f"{counts[k]:,}" for k in kinds) + " |")
    return "\n".join(lines)


def _faults(report: dict[str, Any]) -> str:
    faults = report["faults"]
    rows = [f"| {k} | {n:,} | {faults['rules'][k]} |" for k, n in faults["counts"].items()]
    return (
        "\n".join(["| kind | count | rule |", "| --- | ---: | --- |", *rows]) if rows else "None."
    )


def _provenance(report: dict[str, Any], sources: Sources) -> str:
    lines = []
    for part, path in sources.parts.items():
        lines.append(f"- {part}: `{sources.name(path)}`; {_PUBLIC[part]}. {_licence(path)}")
    return "\n".join(lines)


def _licence(path: Path) -> str:
    """What a Roboflow export says of its own licence, if the part is one."""
    data_yaml = path / "data.yaml"
    content = plain_yaml(data_yaml) if data_yaml.is_file() else None
    told = content.get("roboflow") if isinstance(content, dict) else None
    if isinstance(told, dict):
        stated = [f"{k} {str(told[k])[:200]}" for k in ("license", "url") if told.get(k)]
        return f"Stated in the export: {', '.join(stated)}."
    return "Licence: not stated in the files; see the page that you took it from."
