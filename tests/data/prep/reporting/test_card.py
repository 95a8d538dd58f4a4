import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.prep.build import main
from data.prep.importers.sources import Sources
from data.prep.reporting.card import write_card
from tests.data.prep.reporting.small_set import in_memory
from tests.data.prep.source_builder import BOX, jpeg, picture


def card_of(source, out, *options):
    assert main(["--source", str(source.root), "--out", str(out), *options]) == 0
    return (out / "README.md").read_text()


def test_the_card_tells_split_leaks_faults_and_licence(source, tmp_path):
    (source.accidents / "data.yaml").write_text(
        "names: [moderate, severe]\nroboflow:\n  license: CC BY 4.0\n  url: https://u.example/x\n"
    )
    source.frame("bad", BOX + BOX, jpeg(picture(60)))
    text = card_of(source, tmp_path / "data", "--leak-free")
    front = yaml.safe_load(text.split("---")[1])
    assert front["configs"][0]["data_files"][2]["split"] == "test"
    for words in ("**leak-free**", "duplicate-row | 1", "CC BY 4.0", "| test in train | 0 "):
        assert words in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("options", [[], ["--without", "negatives", "trace"]])
def test_every_file_that_the_card_names_is_there(source, tmp_path, options):
    text = card_of(source, tmp_path / "data", *options)
    named = re.findall(r"`([\w.]+\.(?:csv|html|json|jsonl|md|yaml))`", text)
    assert {"manifest.json", "report.html"} <= set(named)
    assert [name for name in named if not (tmp_path / "data" / name).is_file()] == []


def test_the_card_promises_no_part_that_was_left_out(source, tmp_path):
    whole = card_of(source, tmp_path / "whole")
    assert "accident-free frames as background" in whole
    assert "Negatives are split by\nframe" in whole
    text = card_of(source, tmp_path / "data", "--without", "negatives", "trace")
    assert "Negatives" not in text
    assert "background" not in text
    assert "There is no set of accident-free frames." in text


@pytest.mark.parametrize("roboflow", ["", "roboflow: {}\n", "roboflow: [1]\n"])
def test_a_licence_that_the_export_does_not_state_is_said_to_be_missing(source, tmp_path, roboflow):
    (source.accidents / "data.yaml").write_text("names: [moderate, severe]\n" + roboflow)
    text = card_of(source, tmp_path / "data")
    assert "Licence: not stated in the files" in text
    assert "Stated in the export" not in text


CARD = """\
---
pretty_name: DAT accident frames, <own> split
license: other
license_name: as-its-sources
task_categories:
- object-detection
tags:
- traffic-accident
- image
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - images/train/*.jpg
    - metadata/train/metadata.jsonl
  - split: val
    path:
    - images/val/*.jpg
    - metadata/val/metadata.jsonl
  - split: test
    path:
    - images/test/*.jpg
    - metadata/test/metadata.jsonl
---

# Accident frames for DAT: <own> split

Frames with boxes of moderate and severe accidents, accident-free frames as background, and the
uplink trace `bandwidth.csv`. Made by `python -m data.prep.build`; `manifest.json` holds the sha256
of every source and file. Open `report.html` to look at it. Scores on this set are scores on the
**<own>** split.

```python
from datasets import load_dataset
frames = load_dataset("<this folder>")   # image, image_id, width, height, objects, negative
```
`objects.bbox` is [x1, y1, x2, y2] in pixels; `objects.category` is 0 = moderate, 1 = severe.

## Splits and class balance

| split | frames | accident set | negatives | moderate boxes | severe boxes |
| --- | ---: | ---: | ---: | ---: | ---: |
| train | 3 | 3 | 0 | 2 | 1 |
| val | 1 | 1 | 0 | 0 | 7 |
| test | 2 | 1 | 1 | 2 | 0 |

Classes of the YOLO labels: moderate, severe. Negatives are split by
frame (640 x 640, gamma 1.2, 0 exact duplicates removed).

## Leaks between splits

| frames of | exact | near | reframed | same-source | same-clip |
| --- | ---: | ---: | ---: | ---: | ---: |
| test in train | 0 | 1 | 0 | 0 | 0 |
| val in train | 0 | 0 | 0 | 0 | 0 |

## One picture, two truths

1,001 frames contradict another frame of the same picture (`--on-conflict merge`);
`conflicts.json` lists them. Those that are still here are marked in the truth.

| frames of | left out | merged | marked |
| --- | ---: | ---: | ---: |
| train | 1,000 | 0 | 1 |

## Faults found in the source

| kind | count | rule |
| --- | ---: | --- |
| polygon-row | 1 | repaired: replaced by the box around the polygon |
| empty-label | 1 | accepted: an accident-free frame |

## Provenance and licence

- accidents: `accidents`; Accidents Detection Dataset (Kaggle amedeograndi/accidents-detection-dataset), if this is the paper's source. Stated in the export: license CC BY 4.0, url https://u.example/x.
- negatives: `negatives`; Accident Detection From CCTV Footage (Kaggle ckay16/accident-detection-from-cctv-footage), if this is the paper's source. Licence: not stated in the files; see the page that you took it from.
- trace: `t.csv`; 5G Traffic Datasets (Kaggle kimdaegyeom/5g-traffic-datasets), if this is the paper's source. Licence: not stated in the files; see the page that you took it from.

Frames may show faces, number plates and broadcasters' marks: treat them as personal data. The
source's licences bind every copy of this set; none is granted here.
"""  # noqa: E501


def sources(folder: Path) -> Sources:
    root = folder / "source"
    for name in ("accidents", "negatives"):
        (root / name).mkdir(parents=True)
    (root / "t.csv").write_text("")
    export = "roboflow:\n  license: CC BY 4.0\n  url: https://u.example/x\n"
    (root / "accidents" / "data.yaml").write_text(export)
    parts = (root / "accidents", root / "negatives", root / "t.csv")
    return Sources((root,), "yolo", *parts, ())


def written(folder: Path, **changes: Any) -> str:
    report, _ = in_memory(folder)
    write_card(folder, report | changes, sources(folder))
    return (folder / "README.md").read_text()


def test_the_card_of_a_small_set_to_the_letter(tmp_path: Path) -> None:
    outcomes = {"train": {"left out": 1000, "merged": 0, "marked": 1}}
    conflicts = {"frames": 1001, "on_conflict": "merge", "outcomes": outcomes}
    assert written(tmp_path, conflicts=conflicts) == CARD


def test_what_a_set_has_not_is_not_promised(tmp_path: Path) -> None:
    splits = {"train": dict.fromkeys(("frames", "accident_set", "negatives"), 0)}
    splits["train"] |= {"moderate_boxes": 0, "severe_boxes": 0}
    faults: dict[str, Any] = {"counts": {}, "rules": {}, "list": []}
    text = written(tmp_path, splits=splits, trace=None, negatives={"found": 0}, faults=faults)
    assert "Frames with boxes of moderate and severe accidents. Made by" in text
    assert "There is no set of accident-free frames.\n" in text
    assert "## Faults found in the source\n\nNone.\n" in text
    assert (
        "## One picture, two truths\n\nNone: no two frames of one picture contradict each other.\n"
        in text
    )


@pytest.mark.parametrize(
    ("frames", "category"),
    [
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (9_999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
    ],
)
def test_a_set_has_the_category_of_its_size(tmp_path: Path, frames: int, category: str) -> None:
    counts = {"accident_set": 0, "negatives": 0, "moderate_boxes": 0, "severe_boxes": 0}
    parts = {"train": {"frames": frames - 1, **counts}, "val": {"frames": 1, **counts}}
    front = yaml.safe_load(written(tmp_path, splits=parts).split("---")[1])
    assert front["size_categories"] == [category]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("roboflow:\n  license: MIT\n", "Stated in the export: license MIT."),
        (f"roboflow:\n  url: {'x' * 300}\n", f"Stated in the export: url {'x' * 200}."),
        ("roboflow: []\n", "Licence: not stated in the files; see the page that you took it from."),
        ("[]\n", "Licence: not stated in the files; see the page that you took it from."),
    ],
)
def test_a_licence_is_told_as_the_export_states_it(tmp_path: Path, text: str, told: str) -> None:
    report, _ = in_memory(tmp_path)
    given = sources(tmp_path)
    (given.accidents / "data.yaml").write_text(text)
    write_card(tmp_path, report, given)
    (line,) = [
        line for line in (tmp_path / "README.md").read_text().splitlines() if "- accidents" in line
    ]
    assert line.endswith(f"if this is the paper's source. {told}")
