"""Which frames of one Roboflow name belong together, at the bounds."""

import numpy as np

from data.prep.pictures import looks
from data.prep.splitting.same_source import same_source
from tests.data.prep.splitting.kept_builder import kept


class Compared:
    """Pictures whose looks differ by these bits where both show the same; pairs are remembered."""

    def __init__(self, bits=()):
        self.bits = bits
        self.pairs = []

    def distances(self, pairs):
        self.pairs = pairs.tolist()
        return np.array(self.bits, np.int64)[: len(pairs)]


def named(image, copy):
    return kept(f"{image}_jpg.rf.{copy:032x}")


def look(count):
    """A look of so many bits, in the even rows: 64 in even columns, then in odd ones."""
    bits = np.zeros((16, 16), np.uint8)
    even, odd = min(count, 64), max(count - 64, 0)
    bits[::2, ::2].flat[:even] = 1
    bits[::2, 1::2].flat[:odd] = 1
    return np.packbits(bits).tobytes()


def never(first, second):
    return np.zeros(len(first), bool)


def test_looks_within_the_radius_of_one_place_join_frames_of_one_name_and_others_are_compared():
    frames = [named("a", 0), kept("stranger"), named("a", 1), named("a", 2), named("b", 3)]
    bits = [look(0), look(0), look(looks.SAME_PLACE), look(0), look(0)]
    bits[3] = look(73)
    assert looks.distance(bits[0], bits[3]) == 73 == looks.SAME_PLACE + 1
    compared = Compared([looks.SAME_PLACE])
    near, laid_over = same_source(frames, bits, compared, never)
    assert near.tolist() == [[0, 2, 72], [2, 3, 1]]
    assert compared.pairs == [[0, 3]]
    assert laid_over.tolist() == [[0, 3, 72]]
    near, laid_over = same_source(frames, bits, Compared([73]), never)
    assert laid_over.tolist() == []


def test_a_settled_pair_is_not_compared():
    frames = [named("a", copy) for copy in range(3)]
    bits = [look(0), look(64 + 30), np.random.default_rng(0).bytes(32)]
    compared = Compared([0, 0])
    near, laid_over = same_source(frames, bits, compared, lambda one, other: (one + other) == 1)
    assert near.tolist() == []
    assert compared.pairs == [[0, 2], [1, 2]]
    assert laid_over.tolist() == [[0, 2, 0], [1, 2, 0]]


def test_a_frame_is_compared_with_sixteen_others_of_its_name():
    frames = [named("a", copy) for copy in range(18)]
    near, _ = same_source(frames, [look(0)] * 18, Compared(), never)
    pairs = {(first, second) for first, second, _ in near.tolist()}
    assert pairs == {(i, j) for i in range(18) for j in range(i + 1, 18)} - {(0, 17)}
    assert [rows.tolist() for rows in same_source([kept("x")], [look(0)], Compared(), never)] == [
        [],
        [],
    ]
