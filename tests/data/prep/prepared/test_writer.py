"""The set on disk: pictures in their places, labels, truth, groups."""

import json
from pathlib import Path

from dat_runtime.truth import read_split
from dat_runtime.types import Accident, Box, Size
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures.prepare import Prepared
from data.prep.prepared import writer
from data.prep.prepared.kept import Kept

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
