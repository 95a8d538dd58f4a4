import numpy as np
import pytest

from data.prep.importers.cctv import GAMMA, PAPER_SPLIT, corrected, split
from tests.data.prep.source_builder import picture


def counts(contents, seed=0):
    found = list(split(contents, seed).values())
    return tuple(found.count(name) for name in ("train", "val", "test"))


def test_508_frames_are_split_as_the_paper_splits_them():
    contents = [f"{i:064x}" for i in range(508)]
    assert counts(contents) == tuple(PAPER_SPLIT.values()) == (268, 120, 120)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 435, 1000])
def test_every_number_of_frames_is_split_in_proportion(n):
    found = counts([str(i) for i in range(n)])
    assert sum(found) == n
    assert all(abs(c - n * p / 508) < 1 for c, p in zip(found, PAPER_SPLIT.values(), strict=True))


def test_the_split_hangs_on_content_and_seed_not_on_order():
    contents = [str(i) for i in range(100)]
    assert split(contents, 0) == split(contents[::-1], 0)
    assert split(contents, 0) != split(contents, 1)


def test_a_frame_is_resampled_to_640_and_brightened_by_the_documented_gamma():
    frame = picture(1, 128, 72)
    found = np.asarray(corrected(frame))
    assert found.shape == (640, 640, 3)
    resized = np.asarray(frame.resize((640, 640), 3)) / 255
    assert np.abs(found - 255 * resized ** (1 / GAMMA)).max() <= 0.51
