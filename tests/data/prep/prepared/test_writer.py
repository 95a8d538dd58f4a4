"""The set on disk: pictures in their places, labels, truth, groups."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime.truth import read_split
from dat_runtime.types import Accident, Box, Size
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.importers.sources import Sources
from data.prep.pictures.prepare import Prepared
from data.prep.prepared import writer
from data.prep.prepared.kept import Kept
from tests.data.prep.reporting.small_set import FRAMES as SMALL

MODERATE = Accident(Box(0.0, 0.0, 0.5, 1.0, UNIT), "moderate")
SEVERE = Accident(Box(0.25, 0.25, 0.75, 0.5, UNIT), "severe")


def kept(name, position, split, group, accidents=()):
    source = SourceFrame(name, split, Path(f"{name}.jpg"), f"{name}.jpg", accidents)
    return Kept(source, Prepared(name, Size(100, 40), "", ()), name, position, split, group)


FRAMES = [
    kept("b", 0, "train", 0, (MODERATE, SEVERE)),
    kept("a", 2, "val", 0),
    kept("c", 3, "test", 1, (SEVERE,)),
]


def test_kept_pictures_move_to_their_places_and_the_others_go(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    for position in range(4):
        (staging / f"{position}.jpg").write_text(str(position))
    writer.place_pictures(tmp_path, FRAMES, staging)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.jpg")}
    assert files == {"images/train/b.jpg", "images/val/a.jpg", "images/test/c.jpg"}
    assert (tmp_path / "images/val/a.jpg").read_text() == "2"
    assert not staging.exists()


def test_labels_are_fractions_and_the_truth_is_read_back_in_pixels(tmp_path):
    writer.write_set(tmp_path, FRAMES)
    assert (tmp_path / "labels/train/b.txt").read_text() == (
        "0 0.25000000 0.50000000 0.50000000 1.00000000\n"
        "1 0.50000000 0.37500000 0.50000000 0.25000000\n"
    )
    assert (tmp_path / "labels/val/a.txt").read_text() == ""
    (frame,) = read_split(tmp_path, "train")
    assert (frame.image_id, frame.image, frame.size) == ("b", "images/train/b.jpg", Size(100, 40))
    boxes = [accident.box for accident in frame.accidents]
    assert boxes == [Box(0, 0, 50, 40, frame.size), Box(25, 10, 75, 20, frame.size)]
    metadata = json.loads((tmp_path / "metadata/train/metadata.jsonl").read_text())
    assert metadata["objects"] == {"bbox": [[0, 0, 50, 40], [25, 10, 75, 20]], "category": [0, 1]}


def test_a_set_of_one_class_keeps_the_severities_in_its_truth(tmp_path):
    writer.write_set(tmp_path, FRAMES, single_class=True)
    assert (tmp_path / "labels/test/c.txt").read_text().startswith("0 ")
    assert read_split(tmp_path, "test")[0].severities == ("severe",)


def test_a_group_has_the_name_of_its_first_frame_in_every_split(tmp_path):
    writer.write_groups(tmp_path, FRAMES)
    groups = json.loads((tmp_path / "groups.json").read_text())
    assert groups == {"train": {"b": "a"}, "val": {"a": "a"}, "test": {"c": "c"}}


def test_the_ledger_lists_every_picture_with_its_place_if_it_has_one(tmp_path):
    dropped = kept("dropped", 1, None, -1)
    listed = [FRAMES[0], dropped, *FRAMES[1:]]
    sources = [frame.source for frame in listed]
    writer.write_ledger(tmp_path, sources, [frame.picture for frame in listed], FRAMES)
    lines = (tmp_path / "pictures.jsonl").read_text().splitlines()[1:]
    places = {row["file"]: row["image"] for row in map(json.loads, lines)}
    assert places == {
        "b.jpg": "images/train/b.jpg",
        "dropped.jpg": None,
        "a.jpg": "images/val/a.jpg",
        "c.jpg": "images/test/c.jpg",
    }


def test_labels_truth_and_metadata_say_the_same_to_the_letter(tmp_path):
    doubted = replace(SMALL[0], conflict="other-boxes")
    writer.write_set(tmp_path, [SMALL[1], doubted, *SMALL[2:]])
    assert sorted(path.name for path in (tmp_path / "labels" / "train").iterdir()) == [
        *("f0.txt", "f1.txt", "f2.txt"),
    ]
    assert (tmp_path / "labels" / "train" / "f0.txt").read_text() == (
        "1 0.50000000 0.75000000 0.50000000 0.50000000\n"
        "0 0.05000000 0.02500000 0.10000000 0.05000000\n"
    )
    assert (tmp_path / "labels" / "train" / "f2.txt").read_text() == ""
    first, second, third = (tmp_path / "truth_train.jsonl").read_text().splitlines()
    assert json.loads(first) == {
        "image_id": "f0",
        "image": "images/train/f0.jpg",
        "width": 48,
        "height": 64,
        "accidents": [
            {"bbox": [12, 32, 36, 64], "severity": "severe"},
            {"bbox": [0, 0, 5, 3], "severity": "moderate"},
        ],
        "conflict": "other-boxes",
    }
    assert [json.loads(line)["image_id"] for line in (second, third)] == ["f1", "f2"]
    assert "conflict" not in json.loads(second)
    (_, last) = (tmp_path / "metadata" / "test" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(last) == {
        "file_name": "../../images/test/f5.jpg",
        "image_id": "f5",
        "width": 64,
        "height": 48,
        "objects": {"bbox": [], "category": []},
        "negative": True,
    }
    (only,) = (tmp_path / "metadata" / "val" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(only)["objects"]["category"] == [1] * 7
    assert (
        (tmp_path / "data.yaml").read_text().endswith("nc: 2\nnames:\n  0: moderate\n  1: severe\n")
    )


def test_a_single_class_is_called_accident(tmp_path):
    writer.write_set(tmp_path, SMALL, single_class=True)
    rows = (tmp_path / "labels" / "train" / "f0.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["0", "0"]
    assert (tmp_path / "data.yaml").read_text().endswith("nc: 1\nnames:\n  0: accident\n")


def test_a_group_has_the_name_of_its_first_frame(tmp_path):
    grouped = [replace(frame, group=i % 2) for i, frame in enumerate(reversed(SMALL))]
    writer.write_groups(tmp_path, grouped)
    assert json.loads((tmp_path / "groups.json").read_text()) == {
        "train": {"f0": "f0", "f1": "f1", "f2": "f0"},
        "val": {"f3": "f1"},
        "test": {"f4": "f0", "f5": "f1"},
    }


def test_the_uplink_of_a_trace_is_scaled_and_told(tmp_path):
    trace, other = tmp_path / "b.up", tmp_path / "a.up"
    for path in (trace, other):
        path.write_text("".join(f"{ms}\n" for ms in range(0, 3000, 3)))
    folder = tmp_path / "set"
    folder.mkdir()
    sources = Sources((tmp_path,), "yolo", tmp_path / "accidents", None, trace, (other,))
    whole = writer.write_bandwidth(folder, sources, 1.0)
    rates = (folder / "bandwidth.csv").read_text()
    halved = writer.write_bandwidth(folder, sources, 0.5)
    assert whole is not None
    assert halved is not None
    assert rates.splitlines()[0] == "second,uplink_bytes_per_s"
    assert len(rates.splitlines()) == whole["seconds"] + 1
    half = [
        float(line.split(",")[1]) for line in (folder / "bandwidth.csv").read_text().split()[1:]
    ]
    assert half == [float(line.split(",")[1]) / 2 for line in rates.split()[1:]]
    assert whole["mean_bytes_per_s"] == pytest.approx(1500 * 1000 / 3, rel=0.01)
    assert halved == whole | {
        "scale": 0.5,
        "mean_bytes_per_s": pytest.approx(whole["mean_bytes_per_s"] / 2, abs=0.1),
    }
    assert list(whole) == [
        *("file", "form", "scale", "notes", "seconds", "mean_bytes_per_s", "not_used"),
    ]
    assert (whole["file"], whole["not_used"]) == ("b.up", ["a.up"])
    without = replace(sources, trace=None)
    assert writer.write_bandwidth(folder, without, 1.0) is None
