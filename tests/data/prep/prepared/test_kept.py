"""Which frames are kept for the set, and which faults are found meanwhile."""

from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from dat_runtime.types import Accident, Box, Size
from data.prep.importers.faults import Fault
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.importers.sources import Sources
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import (
    Kept,
    demand_frames,
    demand_pictures,
    keep,
    picture_faults,
)

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


def test_a_negative_that_copies_a_frame_with_boxes_stays_to_be_judged():
    frames = [frame("boxed", accidents=(SEVERE,)), frame("n", True), frame("m", True)]
    frames += [frame("empty"), frame("again", accidents=(SEVERE,))]
    kept, faults = keep(frames, [picture(f.id) for f in frames], ["1"] * 5)
    assert [(k.id, k.position, k.content) for k in kept] == [
        *(("boxed", 0, "1"), ("n", 1, "1"), ("empty", 3, "1"), ("again", 4, "1")),
    ]
    assert [(f.kind, f.file, f.line, f.detail) for f in faults] == [
        ("duplicate-negative", "m.jpg", None, "copy of n.jpg"),
        ("duplicate-frame", "empty.jpg", None, "copy of boxed.jpg"),
        ("duplicate-frame", "again.jpg", None, "copy of boxed.jpg"),
    ]


def refusal(work, *given):
    with pytest.raises(DataError) as refused:
        work(*given)
    return str(refused.value)


def test_a_source_without_a_usable_picture_says_what_was_wrong_with_them():
    frames = [frame(str(i)) for i in range(1200)]
    told = "accidents: of 1,200 pictures no accident frame is usable: "
    assert refusal(demand_pictures, [], frames, [], sources()) == f"{told}none found"
    kinds = ["empty-file"] * 1100 + ["corrupt-image", "image-size", "size-mismatch"] * 2
    kinds += ["not-an-image", "orphan-image", "colour-mode", "rotated-image"]
    faults = [Fault(kind, f"{i}.jpg", None, f"detail {i}") for i, kind in enumerate(kinds)]
    negatives = placed("train", negative=True)
    assert refusal(demand_pictures, negatives, frames, faults[-2:] + faults, sources()) == (
        f"{told}1,100 empty-file, 2 corrupt-image, 2 image-size, 2 size-mismatch, 1 not-an-image "
        "(the first: 0.jpg, detail 0)"
    )
    demand_pictures(placed("train"), frames, faults, sources())


def test_a_split_that_is_empty_is_named_with_what_was_lost():
    faults = [Fault("empty-file", "a.jpg", None, "0 bytes")]
    advice = (
        "(--leak-free makes new splits; --on-conflict keep leaves no frame out whose labels "
        "contradict another's)"
    )
    kept = placed("train", "test")
    assert refusal(demand_frames, kept, sources()) == (
        f"accidents: no usable frame in the split val {advice}"
    )
    assert refusal(demand_frames, kept, sources(), faults) == (
        "accidents: no usable frame in the split val; lost in all splits: 1 empty-file (the first: "
        f"a.jpg, 0 bytes) {advice}"
    )
