"""Frames that belong together are linked, and a split that keeps groups tears none apart."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from dat_runtime.truth import SPLITS
from data.prep.build import main
from data.prep.pictures import looks, records
from data.prep.splitting.leaks import KINDS, Link, Links, linked_pairs, summary, with_groups
from tests.data.prep.source_builder import BOX, jpeg, scene
from tests.data.prep.splitting.kept_builder import kept


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


def test_a_kind_goes_before_any_distance():
    links = linked(["train", "val", "val", "test", "test"], (0, 1, "near", 0), (0, 2, "exact", 255))
    assert links.twins("train", "val") == [Link(0, 2, "exact", 255)]
    assert links.twins("val", "train") == [Link(1, 0, "near", 0), Link(2, 0, "exact", 255)]
    assert links.across() == [Link(0, 2, "exact", 255), Link(0, 1, "near", 0)]


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_closest_twins_are_those_of_a_search_through_all_links(seed):
    rng = np.random.default_rng(seed)
    count, splits = 40, rng.choice(SPLITS, 40).tolist()
    pairs = np.array([rng.choice(count, 2, replace=False) for _ in range(30)])
    rows = np.column_stack([pairs, rng.integers(len(KINDS), size=30), rng.integers(256, size=30)])
    links = Links(count, splits)
    for part in np.split(rows, [1, 8, 20]):
        links.add(part)

    joined = np.eye(count, dtype=bool)
    joined[pairs[:, 0], pairs[:, 1]] = joined[pairs[:, 1], pairs[:, 0]] = True
    for _ in range(6):
        joined = (joined.astype(int) @ joined) > 0
    first, second = np.divmod(np.arange(count * count), count)
    assert np.array_equal(links.together(first, second), joined[first, second])
    groups = np.array(links.groups())
    assert np.array_equal(groups[first] == groups[second], joined[first, second])
    assert list(dict.fromkeys(groups.tolist())) == list(range(groups.max() + 1))

    both = [*rows.tolist(), *rows[:, [1, 0, 2, 3]].tolist()]
    for split in SPLITS:
        for other in SPLITS:
            wanted = []
            for frame in range(count):
                twins = [
                    (kind, bits, twin) for one, twin, kind, bits in both
                    if one == frame and splits[one] == split != other == splits[twin]
                ]  # fmt: skip
                if twins:
                    kind, bits, twin = min(twins)
                    wanted.append(Link(frame, twin, KINDS[kind], bits))
            assert links.twins(split, other) == wanted


def test_a_link_is_settled_where_it_changes_neither_groups_nor_which_frames_have_a_twin():
    def is_settled(splits, *pairs):
        links = linked(splits, *pairs)
        return links.is_settled(np.array([0, 0, 0, 1]), np.array([1, 2, 3, 2])).tolist()

    chain = (0, 1, "near", 0), (1, 2, "near", 0)
    assert is_settled(None, *chain) == [True, True, False, True]
    # The first of train has no twin in test yet, and the one of test none in train.
    splits = ["train", "train", "test", "val", "val"]
    assert is_settled(splits, *chain) == [True, False, False, True]
    assert is_settled(splits, *chain, (0, 3, "near", 0)) == [True, False, True, True]
    both = linked(splits, (0, 2, "near", 0), (0, 1, "near", 0))
    assert both.is_settled(np.array([1, 2]), np.array([2, 1])).tolist() == [False, False]


def test_frames_without_a_split_have_groups_only_and_a_report_counts_twins_by_kind():
    splits = ["train", "train", "val", "val", "test"]
    frames = [kept(str(number), split=split) for number, split in enumerate(splits)]
    rows = np.array([(0, 2, 0, 0), (1, 3, 1, 5), (3, 4, 4, 60)], np.int64)
    links = Links.of(frames)
    links.add(rows)
    grouped = with_groups(frames, links)
    assert [frame.group for frame in grouped] == [0, 1, 0, 1, 1]
    none = dict.fromkeys(KINDS, 0)
    assert summary(links, grouped) == {
        "radius_bits": {"near": 48, "same-clip": 72, "of": 256},
        "groups": 2,
        "largest_group": 3,
        "groups_across_splits": 2,
        "frames_with_a_twin": {
            "val in train": none | {"exact": 1, "near": 1},
            "test in train": none,
            "test in val": none | {"same-clip": 1},
        },
    }
    apart = with_groups(frames[:2], Links.of(frames[:2]))
    assert summary(Links.of(apart), apart)["groups_across_splits"] == 0
    assert summary(Links.of([]), [])["largest_group"] == 0
    unsplit = Links.of([*frames[:4], kept("4", split="")])
    unsplit.add(rows)
    assert unsplit.groups() == [0, 1, 0, 1, 1]
    assert unsplit.across() == []


def test_pairs_come_with_their_kind_and_the_bits_in_which_they_differ():
    images = [scene(0), scene(1), scene(0), scene(1).resize((200, 200)), scene(2),
              scene(2).rotate(6)]  # fmt: skip
    contents = ["a", "b", "a", "c", "d", "e"]
    frames = []
    for position, (image, content) in enumerate(zip(images, contents, strict=True)):
        frame = kept(f"f{position}", split="train" if position < 2 else "val")
        picture = replace(frame.picture, look=looks.look_of(image).hex())
        frames.append(replace(frame, picture=picture, content=content, position=position))
    rows = list(linked_pairs(frames, records.of_pictures(images), "threads"))
    found = {}
    for first, second, kind, bits in np.concatenate(rows).tolist():
        found.setdefault((first, second), (KINDS[kind], bits))
    assert found.keys() == {(0, 2), (1, 3), (4, 5)}
    assert found[0, 2] == ("exact", 0)
    near = looks.distance(*(bytes.fromhex(frames[at].picture.look) for at in (1, 3)))
    assert found[1, 3] == ("near", near)
    assert found[4, 5][0] == "reframed"
    assert found[4, 5][1] <= looks.SAME_PICTURE
