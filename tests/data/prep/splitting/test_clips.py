"""Frames of one clip stay together, and strangers that are numbered alike do not."""

import json

import numpy as np
import pytest

from data.prep.build import main
from data.prep.pictures import looks
from data.prep.splitting import clips
from tests.data.prep.source_builder import BOX, jpeg, scene


def splits_of(source, out):
    """The split of each frame and its group, after a build that is free of leaks."""
    assert main(["--source", str(source.root), "--out", str(out), "--leak-free"]) == 0
    placed = {}
    for split, members in json.loads((out / "groups.json").read_text()).items():
        for name, group in members.items():
            placed[name] = (split, group)
    return placed


def clip(source, names, seed):
    """Frames of one name that have nothing in common to the eye, over all splits."""
    for number, name in enumerate(names):
        split = ("train", "valid", "test")[number % 3]
        source.frame(name, BOX, jpeg(scene(seed + number, 64)), split)


@pytest.mark.parametrize(
    "names",
    [
        ["5_9", "5_10", "5_11"],
        [f"test16_{number}" for number in range(1, 49)],
        [f"clip_{number:04d}" for number in range(0, 300, 30)],
        [f"frame{number}" for number in range(12, 20)],
        [f"5_{number}_jpg.rf.{number:032x}" for number in range(9)],
        [f"acc1 ({number})" for number in range(1, 6)],
        [f"cam1-2024-05-31-10-15-{second:02d}" for second in range(8)],
        [f"street_mp4-{number}_jpg.rf.{number:032x}" for number in range(8)],
    ],
    ids=lambda names: names[0],
)
def test_a_clip_by_its_names_is_one_group_whatever_it_shows(source, tmp_path, names):
    clip(source, names, 100)
    clip(source, [f"other{letter}" for letter in "abcdefghijkl"], 300)
    placed = splits_of(source, tmp_path / "data")
    ours = {place for name, place in placed.items() if not name.startswith(("other", "negative"))}
    others = {group for name, (_, group) in placed.items() if name.startswith("other")}
    assert (
        len(
            {group for _, group in ours}
            - {"train0", "train1", "valid0", "valid1", "test0", "test1"}
        )
        == 1
    )
    assert len(others) == 12


@pytest.mark.parametrize(
    "names",
    [
        [f"IMG_{number}" for number in range(1234, 1250)],
        [f"IMG_20240531_1015{second:02d}" for second in range(10)],
        [f"DSC_{number:04d}" for number in range(10)],
        [f"images-{number}-_jpg.rf.{number:032x}" for number in range(10)],
        [f"OIP-{number}-_jpeg.rf.{number:032x}" for number in range(10)],
        [f"ezgif-frame-{number:03d}_jpg.rf.{number:032x}" for number in range(10)],
        [f"20240531_1015{second:02d}" for second in range(10)],
        [f"{number:08x}-00aa-4bbb-8ccc-{number:012x}" for number in range(1, 200, 20)],
    ],
    ids=lambda names: names[0],
)
def test_photos_that_a_camera_or_the_web_numbered_are_no_clip(source, tmp_path, names):
    clip(source, names, 100)
    placed = splits_of(source, tmp_path / "data")
    assert len({group for _, group in placed.values()}) == len(placed)


def test_a_numbered_collection_of_strangers_is_no_clip(source, tmp_path):
    clip(source, [f"accident_{number:04d}" for number in range(clips.MANY + 1)], 100)
    placed = splits_of(source, tmp_path / "data")
    assert len({group for _, group in placed.values()}) == len(placed)


def test_two_videos_of_one_name_are_told_apart_by_looks(source, tmp_path):
    for number in range(6):
        for copy, seed in enumerate((1, 2)):
            # A still camera: the same place under other light.
            image = scene(seed).point(lambda value, n=number: min(255, value + 8 * n))
            stem = f"film_{number:03d}_jpg.rf.{copy}{number:031x}"
            source.frame(stem, BOX, jpeg(image), ("train", "valid", "test")[number % 3])
    placed = splits_of(source, tmp_path / "data")
    groups = [{place for name, place in placed.items() if f"rf_{copy}" in name} for copy in "01"]
    assert [len(group) for group in groups] == [1, 1]
    assert groups[0] != groups[1]


def test_a_frame_has_a_twin_in_every_split_that_its_clip_reaches(source, tmp_path):
    clip(source, [f"clip_{number}" for number in range(9)], 100)
    out = tmp_path / "data"
    assert main(["--source", str(source.root), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    twins = report["leaks"]["frames_with_a_twin"]
    assert {where: kinds["same-clip"] for where, kinds in twins.items()} == dict.fromkeys(twins, 3)


def test_the_nearest_frames_of_every_other_split_are_linked():
    order = np.array([7, 3, 5, 1])
    first, second = clips._across(order, ["train", "train", "test", "train"])
    pairs = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    neighbours = {frozenset(pair) for pair in [(7, 3), (3, 5), (5, 1)]}
    assert pairs == neighbours | {frozenset((7, 5))}


def test_distances_of_pairs_are_those_of_two_looks():
    rng = np.random.default_rng(0)
    found = [rng.bytes(31) + bytes(1) for _ in range(5)]
    first, second = np.array([0, 4, 2]), np.array([1, 0, 2])
    expected = [looks.distance(found[i], found[j]) for i, j in zip(first, second, strict=True)]
    assert looks.distances(found, first, second).tolist() == expected


@pytest.mark.parametrize(
    ("repeated", "strangers", "expected"),
    [(1, 1, True), (2, 2, False), (3, 2, False), (4, 2, True)],
)
def test_a_name_is_no_clips_where_most_of_its_equal_numbers_are_strangers(
    repeated, strangers, expected
):
    alike = np.array([False] * strangers + [True] * 4)
    is_repeated = np.arange(len(alike)) < repeated
    assert clips._is_clip(alike, is_repeated) is expected


@pytest.mark.parametrize(
    ("neighbours", "expected"), [(63, True), (64, False), (80, True), (81, False)]
)
def test_of_many_neighbours_a_twentieth_is_alike_in_a_clip(neighbours, expected):
    alike = np.arange(neighbours) < (4 if neighbours >= 80 else 0)
    assert bool(clips._is_clip(alike, np.zeros(neighbours, bool))) is expected


def test_each_frame_is_linked_to_the_nearest_ones_of_every_other_split():
    order = np.array([10, 11, 12, 13, 14])
    first, second = clips._across(order, ["train", "val", "train", "train", "test"])
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        *((10, 11), (10, 11), (10, 14)),
        *((11, 10), (11, 12), (11, 12), (11, 14)),
        *((12, 11), (12, 13), (12, 14)),
        *((13, 11), (13, 14), (13, 14)),
        *((14, 11), (14, 13)),
    ]


def test_frames_of_a_doubtful_name_are_compared_with_the_next_sixty_four():
    first, second = clips._within_window(np.array([5, 3, 8, 1]))
    pairs = sorted(zip(first.tolist(), second.tolist(), strict=True))
    assert pairs == [(3, 1), (3, 8), (5, 1), (5, 3), (5, 8), (8, 1)]
    first, second = clips._within_window(np.arange(70))
    assert len(first) == sum(70 - apart for apart in range(1, 65))
    assert (second - first).max() == 64
