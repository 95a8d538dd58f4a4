"""One picture, one truth: contradictions are found, told apart from honest copies, and resolved."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageOps

from dat_runtime.types import Accident, Box, Size
from data.prep.build import main
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures import looks, records
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept
from data.prep.splitting import conflicts
from data.prep.splitting.agreement import agreement, fused
from data.prep.splitting.conflicts import RADIUS
from data.prep.splitting.resolution import KEEP, LEAVE_OUT, MERGE, resolved
from tests.data.prep.pictures.test_looks import encoded
from tests.data.prep.pictures.test_unchanged import with_car
from tests.data.prep.source_builder import BOX, jpeg, scene


def accident(x1, y1, x2, y2, severity="moderate"):
    return Accident(Box(x1, y1, x2, y2, UNIT), severity)


LEFT = accident(0.1, 0.2, 0.4, 0.5)
MIRRORED = accident(0.6, 0.2, 0.9, 0.5)
RIGHT = accident(0.7, 0.6, 0.9, 0.8)


class Frames:
    """Frames with their pictures, as the build has them before splits are made."""

    def __init__(self):
        self.pictures = []
        self.kept = []
        self.witnesses = []

    def add(self, image, *accidents, split="train", negative=False, witness=False):
        position = len(self.pictures)
        self.pictures.append(image)
        content = hashlib.sha256(image.tobytes()).hexdigest()
        source = SourceFrame(
            f"f{position}", split, Path(f"f{position}.jpg"), f"f{position}.jpg", accidents, negative
        )
        picture = Prepared(content, Size(*image.size), looks.look_of(image).hex(), ())
        frame = Kept(source, picture, content, position, split)
        (self.witnesses if witness else self.kept).append(frame)
        return frame

    def found(self):
        seen = records.of_pictures(self.pictures)
        return conflicts.find(self.kept, self.witnesses, seen, "threads")

    def kinds(self):
        return {index: conflict.kind for index, conflict in self.found().of.items()}

    def resolved(self, choice):
        resolution = resolved(self.kept, self.found(), choice)
        return {frame.id: frame for frame in resolution.kept}, resolution.outcomes


@pytest.fixture
def frames():
    return Frames()


HONEST = {
    "the same boxes": lambda image: (image, LEFT),
    "encoded anew": lambda image: (encoded(image, 30), LEFT),
    "half the size": lambda image: (image.resize((160, 160)), LEFT),
    "another shape": lambda image: (image.resize((320, 240)), LEFT),
    "mirrored": lambda image: (ImageOps.mirror(image), MIRRORED),
    "upside down": lambda image: (ImageOps.flip(image), accident(0.1, 0.5, 0.4, 0.8)),
    "turned by 90 degrees": lambda image: (image.rotate(90), accident(0.2, 0.6, 0.5, 0.9)),
    "boxes that agree to IoU 0.95": lambda image: (image, accident(0.1, 0.2, 0.4, 0.485)),
}


@pytest.mark.parametrize("change", HONEST.values(), ids=HONEST)
def test_an_honest_copy_is_no_contradiction(frames, change):
    frames.add(scene(1), LEFT)
    frames.add(*change(scene(1)))
    assert frames.kinds() == {}


OTHER = {
    "another place": lambda image: (image, RIGHT),
    "boxes that agree to IoU 0.85": lambda image: (image, accident(0.1, 0.2, 0.4, 0.455)),
    "a further box": lambda image: (image, LEFT, RIGHT),
    "another severity": lambda image: (image, LEFT._replace(severity="severe")),
    "encoded anew": lambda image: (encoded(image, 30), RIGHT),
    "mirrored without its box": lambda image: (ImageOps.mirror(image), LEFT),
    "turned without its box": lambda image: (image.rotate(90), LEFT),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_one_picture_with_other_boxes_is_a_contradiction(frames, change):
    frames.add(scene(1), LEFT)
    frames.add(scene(2), LEFT)
    frames.add(*change(scene(1)))
    assert frames.kinds() == {0: "other-boxes", 2: "other-boxes"}


def look_distance(frames):
    """Bits in which the looks of the first two frames differ."""
    one, two = (bytes.fromhex(frame.picture.look) for frame in frames.kept[:2])
    return looks.distance(one, two)


def test_an_accident_that_moves_before_a_still_camera_is_no_contradiction(frames):
    for left in (100, 108):
        image, place = with_car(scene(3), left)
        frames.add(image, Accident(place, "severe"))
    assert look_distance(frames) <= RADIUS
    assert frames.kinds() == {}


def test_an_accident_that_stands_still_has_one_truth_while_traffic_passes(frames):
    for left, box in ((20, accident(0.6, 0.1, 0.9, 0.3)), (30, accident(0.7, 0.1, 0.9, 0.35))):
        image, _ = with_car(scene(3), left)
        frames.add(image, box)
    assert look_distance(frames) <= RADIUS
    assert frames.kinds() == {0: "other-boxes", 1: "other-boxes"}


def test_the_gamma_of_negatives_hides_no_picture_of_both_folders(frames):
    night = [round(255 * (value / 255) ** 3) for value in range(256)] * 3
    scenes = [scene(seed).point(night) for seed in (0, 2, 4, 6)]
    for image in scenes:
        frames.add(image, negative=True)
    for image in scenes:
        frames.add(encoded(image.resize((640, 360))), witness=True)
    assert frames.kinds() == dict.fromkeys(range(8), "two-folders")


def test_boxes_and_none_and_two_folders_are_told_apart(frames):
    frames.add(scene(1), LEFT)
    frames.add(scene(1), negative=True)
    frames.add(encoded(scene(1)))
    frames.add(scene(2), negative=True)
    frames.add(scene(2), witness=True)
    frames.add(scene(1), witness=True)
    assert frames.kinds() == {
        0: "boxes-and-none",
        1: "two-folders",  # the gravest kind counts, though a frame with boxes contradicts it too
        2: "two-folders",
        3: "two-folders",
        4: "two-folders",
        5: "two-folders",
    }
    faults = frames.found().faults(len(frames.kept))
    assert [fault.file for fault in faults] == ["f0.jpg", "f1.jpg", "f2.jpg", "f3.jpg"]
    details = [fault.detail for fault in faults]
    assert details[0] == "1 box here, no box in f1.jpg (the same pixels)"
    assert details[3] == "accident-free here, an accident in f4.jpg (the same pixels)"


def test_each_side_of_a_contradiction_is_told_and_how_near_the_pictures_are(frames):
    frames.add(scene(1), LEFT)
    frames.add(scene(1), LEFT, RIGHT)
    found = frames.found()
    assert [fault.detail for fault in found.faults(2)] == [
        "1 box here, 2 boxes in f1.jpg (the same pixels)",
        "2 boxes here, 1 box in f0.jpg (the same pixels)",
    ]
    assert found.twins == {0: 1, 1: 1}
    near = replace(found.of[0], exact=False)
    assert conflicts.nearness(near) == "the same look"
    assert conflicts.nearness(replace(near, distance=5)) == "5 of 256 bits differ"


def test_each_picture_gets_a_truth_of_its_own(frames):
    frames.add(scene(1), LEFT)
    frames.add(scene(2), RIGHT)
    frames.add(scene(1), LEFT, RIGHT)
    frames.add(scene(2), RIGHT._replace(severity="severe"))
    staying, _ = frames.resolved(MERGE)
    for name in ("f0", "f2"):
        assert_accidents(staying[name], LEFT, RIGHT)
    for name in ("f1", "f3"):
        assert_accidents(staying[name], RIGHT._replace(severity="severe"))


def test_a_frame_keeps_its_nearest_twin_and_their_number_however_many_there_are(frames):
    frames.add(scene(1), LEFT)
    for number in range(30):
        frames.add(encoded(scene(1), 95 - number), RIGHT)
    found = frames.found()
    assert found.twins[0] == 30
    assert len(found.of) == 31
    first, *copies = (bytes.fromhex(frame.picture.look) for frame in frames.kept)
    distances = [looks.distance(first, copy) for copy in copies]
    assert found.of[0].twin == 1 + distances.index(min(distances))


def contradictory(frames):
    """One picture in all splits with other boxes, mirrored in test; and a negative copy."""
    frames.add(scene(1), LEFT)
    frames.add(scene(1), accident(0.1, 0.2, 0.36, 0.5, "severe"), split="val")
    frames.add(ImageOps.mirror(scene(1)), MIRRORED, accident(0.1, 0.6, 0.3, 0.8), split="test")
    frames.add(scene(1), split="test", negative=True)
    frames.add(scene(2), RIGHT)


def test_by_default_train_loses_them_and_the_others_are_marked(frames):
    contradictory(frames)
    staying, outcomes = frames.resolved(LEAVE_OUT)
    assert {name: frame.conflict for name, frame in staying.items()} == {
        "f1": "boxes-and-none",
        "f2": "boxes-and-none",
        "f3": "boxes-and-none",
        "f4": "",
    }
    assert outcomes == {0: "left out", 1: "marked", 2: "marked", 3: "marked"}
    assert staying["f1"].accidents == frames.kept[1].accidents


def test_keeping_changes_nothing_and_marks_all(frames):
    contradictory(frames)
    staying, outcomes = frames.resolved(KEEP)
    assert [frame.accidents for frame in staying.values()] == [f.accidents for f in frames.kept]
    assert set(outcomes.values()) == {"marked"}


def test_merging_gives_every_copy_one_truth_in_its_own_orientation(frames):
    contradictory(frames)
    staying, outcomes = frames.resolved(MERGE)
    assert outcomes == {0: "merged", 1: "merged", 2: "merged", 3: "left out"}
    mean = accident(0.1, 0.2, (0.4 + 0.36 + 0.4) / 3, 0.5, "severe")
    assert_accidents(staying["f0"], mean, accident(0.7, 0.6, 0.9, 0.8))
    assert_accidents(staying["f1"], mean, accident(0.7, 0.6, 0.9, 0.8))
    mirrored = accident(1 - mean.box.x2, 0.2, 0.9, 0.5, "severe")
    assert_accidents(staying["f2"], mirrored, accident(0.1, 0.6, 0.3, 0.8))
    assert staying["f4"].accidents == (RIGHT,)


def assert_accidents(frame, *expected):
    assert [a.severity for a in frame.accidents] == [a.severity for a in expected]
    for found, wanted in zip(frame.accidents, expected, strict=True):
        assert found.box[:4] == pytest.approx(wanted.box[:4])


def test_where_there_is_no_box_to_merge_the_default_rule_holds(frames):
    frames.add(scene(2), negative=True)
    frames.add(scene(2), witness=True)
    staying, outcomes = frames.resolved(MERGE)
    assert (staying, outcomes) == ({}, {0: "left out"})


side = st.floats(0.02, 0.3)
boxes = st.lists(
    st.builds(
        lambda x, y, w, h, severity: accident(x, y, x + w, y + h, severity),
        *(st.floats(0, 0.6), st.floats(0, 0.6), side, side),
        st.sampled_from(["moderate", "severe"]),
    ),
    min_size=1,
    max_size=5,
)


@given(boxes)
def test_boxes_agree_with_themselves_in_any_order_and_merge_to_no_more(accidents):
    worst, same_severities = agreement(accidents, accidents[::-1])
    assert worst == pytest.approx(1)
    assert same_severities
    merged = fused(accidents + accidents)
    assert 1 <= len(merged) <= len(accidents)
    assert any(a.severity == "severe" for a in merged) == any(
        a.severity == "severe" for a in accidents
    )


def build(source, out, *options):
    return main(["--source", str(source.root), "--out", str(out), *options])


def report_of(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture
def contested(source):
    """Exact copies with other boxes in train and test, and a picture in both CCTV folders."""
    image = jpeg(scene(1))
    source.frame("one", BOX, image)
    source.frame("two", BOX + "1 0.2 0.2 0.2 0.2\n", image, "test")
    free = jpeg(scene(2))
    source.negative("both.jpg", free)
    accidents = source.negatives / "train" / "Accident"
    accidents.mkdir()
    (accidents / "crash.jpg").write_bytes(free)
    (accidents / "notes.txt").write_text("x")
    return source


def test_a_build_tells_counts_leaves_out_and_marks(contested, tmp_path, capsys):
    assert build(contested, tmp_path / "data") == 0
    report = report_of(tmp_path / "data")
    assert report["conflicts"]["kinds"] == {
        "two-folders": 1,
        "boxes-and-none": 0,
        "other-boxes": 2,
    }
    assert report["faults"]["counts"]["conflicting-labels"] == 3
    assert not (tmp_path / "data/images/train/one.jpg").exists()
    rows = map(json.loads, (tmp_path / "data/truth_test.jsonl").read_text().splitlines())
    marks = {row["image_id"]: row.get("conflict") for row in rows}
    assert marks["two"] == "other-boxes"
    assert marks["test0"] is None
    assert not list((tmp_path / "data").rglob("crash*"))
    assert "conflicting-labels: 3" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--leak-free"], ["--on-conflict", "keep"]])
def test_a_build_keeps_what_it_is_told_to(contested, tmp_path, options):
    out = tmp_path / "data"
    assert build(contested, out, *options) == 0
    outcomes = report_of(out)["conflicts"]["outcomes"]
    kept = "keep" in options
    assert sum(counts["left out"] for counts in outcomes.values()) == (
        0 if kept else sum(outcomes["train"].values())
    )
    assert sum(sum(counts.values()) for counts in outcomes.values()) == 3


def test_a_strict_build_refuses_and_names_the_frame_and_its_twin(contested, tmp_path, capsys):
    assert build(contested, tmp_path / "data", "--strict") == 1
    told = capsys.readouterr().err
    assert "one.jpg: duplicate-frame" in told or "two.jpg: duplicate-frame" in told
    assert "conflicting-labels" in told
    assert not (tmp_path / "data").exists()
