import pytest

from data.prep.splitting.assign import PAPER_SPLIT, by_frame


def counts(digests, seed=0):
    splits = list(by_frame(digests, seed).values())
    return tuple(splits.count(name) for name in ("train", "val", "test"))


def test_508_frames_are_split_as_the_paper_splits_them():
    digests = [f"{i:064x}" for i in range(508)]
    assert counts(digests) == tuple(PAPER_SPLIT.values()) == (268, 120, 120)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 435, 1000])
def test_every_number_of_frames_is_split_in_proportion(n):
    split_counts = counts([str(i) for i in range(n)])
    assert sum(split_counts) == n
    for count, part in zip(split_counts, PAPER_SPLIT.values(), strict=True):
        assert abs(count - n * part / 508) < 1


def test_the_split_depends_on_content_and_seed_not_on_order():
    digests = [str(i) for i in range(100)]
    assert by_frame(digests, 0) == by_frame(digests[::-1], 0)
    assert by_frame(digests, 0) != by_frame(digests, 1)
