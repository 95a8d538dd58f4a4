import json
from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime.types import Size
from data.prep.build import main
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept
from data.prep.splitting.assign import PAPER_NEGATIVES, by_frame, leak_free, published
from tests.data.prep.source_builder import jpeg, picture


def counts(digests, seed=0):
    splits = list(by_frame(digests, seed).values())
    return tuple(splits.count(name) for name in ("train", "val", "test"))


def test_508_frames_are_split_as_the_paper_splits_them():
    digests = [f"{i:064x}" for i in range(508)]
    assert counts(digests) == tuple(PAPER_NEGATIVES.values()) == (268, 120, 120)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 435, 1000])
def test_every_number_of_frames_is_split_in_proportion(n):
    split_counts = counts([str(i) for i in range(n)])
    assert sum(split_counts) == n
    for count, part in zip(split_counts, PAPER_NEGATIVES.values(), strict=True):
        assert abs(count - n * part / 508) < 1


@pytest.mark.parametrize(
    ("n", "expected"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (7, (4, 2, 1))]
)
def test_what_is_left_goes_to_the_largest_remainders(n, expected):
    assert counts([str(i) for i in range(n)]) == expected


def test_the_split_depends_on_content_and_seed_not_on_order():
    digests = [str(i) for i in range(100)]
    assert by_frame(digests, 0) == by_frame(digests[::-1], 0)
    assert by_frame(digests, 0) != by_frame(digests, 1)


def negatives(count):
    kept = []
    for i in range(count):
        source = SourceFrame(f"n{i}", None, Path(f"n{i}.jpg"), f"n{i}.jpg", negative=True)
        kept.append(Kept(source, Prepared(f"{i:064x}", Size(64, 48), "", ()), str(i), i, group=i))
    return kept


def labelled(count, split=None):
    """Frames without an accident, each a group of its own."""
    kept = []
    for i, negative in enumerate(negatives(count)):
        source = SourceFrame(f"f{i}", split, Path(f"f{i}.jpg"), f"f{i}.jpg")
        kept.append(replace(negative, source=source))
    return kept


def test_labelled_frames_keep_their_published_split_whatever_becomes_of_negatives():
    kept = [*labelled(1, "val"), *labelled(1), *negatives(2)]
    assert [frame.split for frame in published(kept, False, 0)][:2] == ["val", ""]


def test_negatives_of_a_clip_are_published_together_only_when_asked():
    kept = []
    for i, negative in enumerate(negatives(40)):
        path = Path(f"street{i // 10}_{i % 10}.jpg")
        kept.append(replace(negative, source=replace(negative.source, path=path, file=str(path))))

    def splits_of_clips(by_clip):
        splits = [frame.split for frame in published(kept, by_clip, 0)]
        return [len(set(splits[at : at + 10])) for at in range(0, 40, 10)]

    assert splits_of_clips(True) == [1, 1, 1, 1]
    assert max(splits_of_clips(False)) > 1


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [14, 3, 3]),
        ({"train": 1, "val": 0, "test": 1}, [14, 3, 3]),  # not a proportion of three
        ({"train": 5, "val": 1, "test": 4}, [10, 2, 8]),
    ],
)
def test_new_splits_have_the_proportion_of_the_sources_own_if_it_has_all_three(own, expected):
    splits = [frame.split for frame in leak_free(labelled(20), own, 0)]
    assert [splits.count(split) for split in ("train", "val", "test")] == expected


@pytest.mark.parametrize(
    "split",
    [
        lambda kept, seed: published(kept, by_clip=False, seed=seed),
        lambda kept, seed: published(kept, by_clip=True, seed=seed),
        lambda kept, seed: leak_free(kept, {}, seed),
    ],
    ids=["by frame", "by clip", "leak-free"],
)
def test_the_seed_decides_whichever_rule_splits(split):
    first = [frame.split for frame in split(negatives(50), 1)]
    assert first == [frame.split for frame in split(negatives(50), 1)]
    assert first != [frame.split for frame in split(negatives(50), 2)]
    assert set(first) == {"train", "val", "test"}


def test_negatives_of_a_clip_stay_together_when_asked(source, tmp_path):
    for clip in range(12):
        for number in range(4):
            content = jpeg(picture(300 + 10 * clip + number))
            source.negative(f"test{clip}_{number}.jpg", content, ("train", "val", "test")[clip % 3])
    out = tmp_path / "data"
    main(["--source", str(source.root), "--out", str(out), "--negatives-by-clip"])
    where = {}
    for image in (out / "images").rglob("negative_test*_*.jpg"):
        where.setdefault(image.stem.rpartition("_")[0], set()).add(image.parent.name)
    assert len(where) == 12
    assert all(len(names) == 1 for names in where.values())
    report = json.loads((out / "report.json").read_text())
    assert report["negatives"]["split_by"] == "clip"
    assert set().union(*where.values()) == {"train", "val", "test"}


def test_two_rules_for_the_negatives_at_once_are_refused(source, tmp_path, capsys):
    out = tmp_path / "data"
    options = ["--leak-free", "--negatives-by-clip"]
    assert main(["--source", str(source.root), "--out", str(out), *options]) == 1
    assert "leave --negatives-by-clip out" in capsys.readouterr().err
    assert not out.exists()
