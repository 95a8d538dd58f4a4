"""Which frames are kept for the set, and which faults are found meanwhile."""

from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from dat_runtime.types import Accident, Box, Size
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.importers.sources import Sources
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept, demand_frames, keep, picture_faults

SIZE = Size(64, 48)
SEVERE = Accident(Box(0.25, 0.25, 0.75, 0.5, UNIT), "severe")


def frame(name, negative=False, split="train", accidents=()):
    file = f"{name}.jpg"
    return SourceFrame(name, split, Path(file), file, accidents, negative)


def picture(sha256, size=SIZE, faults=()):
    return Prepared(sha256, size, "00" * 32, faults)


def sources(negatives=None):
    return Sources((Path(),), "yolo", Path("accidents"), negatives, None, ())


def test_copies_among_negatives_go_and_copied_accident_frames_stay():
    frames = [frame("a"), frame("b"), frame("n", True), frame("m", True), frame("copied", True)]
    pictures = [picture(frame.id) for frame in frames]
    kept, faults = keep(frames, pictures, ["1", "1", "2", "2", "1"])
    assert [k.id for k in kept] == ["a", "b", "n"]
    assert [(f.kind, f.file, f.detail) for f in faults] == [
        ("duplicate-frame", "b.jpg", "copy of a.jpg"),
        ("duplicate-negative", "m.jpg", "copy of n.jpg"),
        ("duplicate-negative", "copied.jpg", "copy of a.jpg"),
    ]


def test_a_frame_whose_picture_is_unusable_is_left_out_and_no_original_of_a_copy():
    frames = [frame("broken"), frame("b")]
    pictures = [picture("1", size=None, faults=(("empty-file", "0 bytes"),)), picture("2")]
    kept, faults = keep(frames, pictures, ["same", "same"])
    assert [(k.id, k.position) for k in kept] == [("b", 1)]
    assert faults == []
    (fault,) = picture_faults(frames, pictures)
    assert (fault.kind, fault.file, fault.detail) == ("empty-file", "broken.jpg", "0 bytes")


def test_a_record_says_where_its_picture_lies_and_what_its_split_is_balanced_over():
    severe = Kept(frame("a", accidents=(SEVERE,)), picture("1"), "1", 0, split="val")
    assert severe.image == "images/val/a.jpg"
    assert (severe.size, severe.stratum) == (SIZE, "severe")
    assert Kept(frame("b"), picture("2"), "2", 1).stratum == "empty"
    assert Kept(frame("n", True), picture("3"), "3", 2).stratum == "negative"


def placed(*splits, negative=False):
    return [
        Kept(frame(str(i), negative), picture(str(i)), str(i), i, split=split)
        for i, split in enumerate(splits)
    ]


def test_every_split_needs_an_accident_frame_and_named_negatives_need_a_usable_one():
    everywhere = placed("train", "val", "test")
    demand_frames(everywhere, sources())
    with pytest.raises(DataError, match="no usable frame in the split test"):
        demand_frames(placed("train", "val") + placed("test", negative=True), sources())
    with pytest.raises(DataError, match="cctv: no usable accident-free frame"):
        demand_frames(everywhere, sources(negatives=Path("cctv")))
    demand_frames(everywhere + placed("train", negative=True), sources(negatives=Path("cctv")))
