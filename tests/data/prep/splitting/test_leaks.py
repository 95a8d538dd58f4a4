"""Frames that belong together are linked, and a split that keeps groups tears none apart."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.prep.build import main
from data.prep.pictures import looks
from data.prep.splitting.leaks import KINDS, Link, Links
from tests.data.prep.source_builder import BOX, jpeg, scene


def _look(path):
    with Image.open(path) as image:
        return looks.look_of(image.convert("RGB"))


def report_of(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture
def leaky(source):
    """Twelve scenes with boxes of both classes; some of train have twins in valid and test."""
    for i in range(24):
        image = scene(i)
        label = BOX.replace("0", str(i % 2), 1)
        source.frame(f"s{i}", label, jpeg(image))
        if i % 3 == 0:
            source.frame(f"twin{i}", label, jpeg(ImageOps.mirror(image), quality=50), "valid")
        if i % 3 == 1:
            source.frame(f"again{i}", label, jpeg(image), "test")
    return source


def test_planted_twins_are_told_by_kind_and_listed(leaky, tmp_path):
    assert main(["--source", str(leaky.root), "--out", str(tmp_path / "data")]) == 0
    report = report_of(tmp_path / "data")
    twins = report["leaks"]["frames_with_a_twin"]
    assert twins["val in train"] == dict.fromkeys(KINDS, 0) | {"near": 8}
    assert twins["test in train"] == dict.fromkeys(KINDS, 0) | {"exact": 8}
    assert report["leaks"]["groups_across_splits"] == 16
    assert report["split"] == "published"
    listed = json.loads((tmp_path / "data/leaks.json").read_text())
    pairs = {tuple(sorted(row["frames"])) for row in listed}
    assert ("train/s0", "val/twin0") in pairs
    assert len(pairs) == 16


def test_frames_that_belong_together_are_listed_in_one_group(leaky, tmp_path):
    out = tmp_path / "data"
    main(["--source", str(leaky.root), "--out", str(out)])
    groups = json.loads((out / "groups.json").read_text())
    for split, members in groups.items():
        assert members.keys() == {image.stem for image in (out / "images" / split).iterdir()}
    of = {name: group for members in groups.values() for name, group in members.items()}
    assert of["s0"] == of["twin0"] == "s0"
    assert len(set(of.values())) == report_of(out)["leaks"]["groups"]


def test_a_leak_free_split_tears_no_group_apart_and_keeps_the_classes(leaky, tmp_path):
    out = tmp_path / "data"
    assert main(["--source", str(leaky.root), "--out", str(out), "--leak-free"]) == 0
    report = report_of(out)
    assert report["split"] == "leak-free"
    assert report["leaks"]["groups_across_splits"] == 0
    assert sum(sum(k.values()) for k in report["leaks"]["frames_with_a_twin"].values()) == 0
    assert json.loads((out / "manifest.json").read_text())["config"]["split"] == "leak-free"
    images = sorted((out / "images").rglob("*.jpg"))
    again = np.concatenate(list(looks.alike([_look(image) for image in images])))
    assert len(again) >= 16
    assert all(images[i].parent == images[j].parent for i, j, _ in again.tolist())
    total = sum(s["accident_set"] for s in report["splits"].values())
    assert total == 6 + 24 + 16
    for counts in report["splits"].values():
        assert counts["moderate_boxes"] >= 1
        assert counts["severe_boxes"] >= 1


def twins_of(source, out, *options):
    assert main(["--source", str(source.root), "--out", str(out), *options]) == 0
    return report_of(out)["leaks"]["frames_with_a_twin"]


def groups_of(out):
    """The group of each frame, by the frame's id."""
    groups = json.loads((out / "groups.json").read_text())
    return {name: group for members in groups.values() for name, group in members.items()}


def covered(image, holes):
    """Black squares over a picture, as augmentation makes them."""
    pixels = np.asarray(image).copy()
    for number in range(holes):
        y, x = (37 * number) % 260, (113 * number + 20) % 260
        pixels[y : y + 60, x : x + 60] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("holes", "bits"), [(2, 74), (3, 70)], ids=["laid over", "by looks"])
def test_copies_by_roboflows_names_need_less_likeness(source, tmp_path, holes, bits):
    image, copy = scene(90), covered(scene(90), holes)
    distance = looks.distance(looks.look_of(image), looks.look_of(copy))
    assert distance == pytest.approx(bits, abs=2)
    assert (distance <= looks.SAME_PLACE) == (holes == 3)
    source.frame(f"one_jpg.rf.{'a' * 32}", BOX, jpeg(image), "train")
    source.frame(f"one_jpg.rf.{'b' * 32}", BOX, jpeg(copy), "valid")
    twins = twins_of(source, tmp_path / "data")["val in train"]
    assert twins == dict.fromkeys(KINDS, 0) | {"same-source": 1}


def test_strangers_that_share_a_name_of_the_web_stay_strangers(source, tmp_path):
    for number, name in enumerate(("th", "images", "OIP-51-", "ezgif-frame-001", "street")):
        for copy, split in enumerate(("train", "valid", "test")):
            stem = f"{name}_jpg.rf.{number}{copy}{'0' * 30}"
            source.frame(stem, BOX, jpeg(scene(10 * number + copy)), split)
    twins = twins_of(source, tmp_path / "data")
    assert sum(sum(kinds.values()) for kinds in twins.values()) == 0
    assert report_of(tmp_path / "data")["leaks"]["largest_group"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.rotate(5),
        lambda p: p.rotate(-10),
        lambda p: p.crop((32, 32, 288, 288)).resize(p.size),
        lambda p: p.crop((0, 0, 256, 256)),
    ],
    ids=["turned 5 degrees", "turned 10 degrees", "cropped 10 % a side", "cropped to a corner"],
)
def test_crops_and_small_turns_are_found_without_a_name(source, tmp_path, change):
    for number, name in enumerate(("ash", "birch", "cedar", "dogwood", "elm", "fir")):
        image = scene(number)
        source.frame(name, BOX, jpeg(image), "train")
        source.frame(f"{name}-too", BOX, jpeg(change(image), quality=80), "test")
    out = tmp_path / "data"
    twins = twins_of(source, out)
    assert twins["test in train"] == dict.fromkeys(KINDS, 0) | {"reframed": 6}
    groups = groups_of(out)
    assert all(groups[f"{name}-too"] == groups[name] for name in ("ash", "cedar", "fir"))
    assert report_of(out)["leaks"]["largest_group"] == 2


def linked(splits, *pairs):
    """Links of (first, second, kind, distance)."""
    links = Links(5, splits)
    rows = [(first, second, KINDS.index(kind), bits) for first, second, kind, bits in pairs]
    links.add(np.array(rows, np.int64).reshape(-1, 4))
    return links


def test_links_join_groups_along_chains_and_in_any_order():
    links = linked(None, (3, 4, "near", 9), (0, 4, "exact", 0), (0, 3, "near", 2))
    assert links.groups() == [0, 1, 2, 0, 0]
    links.add(np.array([(1, 4, 0, 0)], np.int64))
    assert links.groups() == [0, 0, 1, 0, 0]


def test_the_closest_twin_is_of_the_strongest_kind_then_the_nearest():
    splits = ["train", "train", "val", "val", "test"]
    links = linked(splits, (0, 2, "near", 40), (1, 2, "near", 7), (0, 3, "same-clip", 1))
    links.add(np.array([(1, 3, KINDS.index("exact"), 0)], np.int64))
    assert links.twins("val", "train") == [Link(2, 1, "near", 7), Link(3, 1, "exact", 0)]
    assert links.twins("train", "val") == [Link(0, 2, "near", 40), Link(1, 3, "exact", 0)]
    assert links.twins("test", "train") == []
    across = [Link(1, 3, "exact", 0), Link(1, 2, "near", 7), Link(0, 2, "near", 40)]
    assert links.across() == across


def test_links_inside_a_split_are_no_leak_but_make_a_group():
    links = linked(["train"] * 5, (0, 1, "exact", 0))
    assert links.across() == []
    assert links.groups() == [0, 0, 1, 2, 3]


def test_without_splits_no_frame_has_a_twin():
    links = linked(None, (0, 1, "exact", 0))
    assert links.twins("val", "train") == []
    assert links.across() == []
