"""Crops and small turns are found among strangers, and what strangers share does not join them."""

from collections import Counter

import numpy as np
from PIL import Image

from data.prep.pictures import records
from data.prep.splitting.reframed import Compared, candidates, reframed
from tests.data.prep.source_builder import scene


def pairs_of(images, is_settled=lambda first, second: np.zeros(len(first), bool)):
    pairs = set()
    compared = Compared(records.of_pictures(images), range(len(images)))
    for rows in reframed(compared, is_settled):
        pairs |= {(first, second) for first, second, _ in rows.tolist()}
    return pairs


def test_a_turned_picture_is_found_among_strangers():
    images = [scene(seed) for seed in range(20)]
    assert pairs_of([*images, images[3].rotate(6)]) == {(3, 20)}


def test_a_logo_that_strangers_share_does_not_join_them():
    logo = scene(99, 110)
    images = [scene(seed) for seed in range(6)]
    for image in images:
        image.paste(logo, (8, 8))
    assert pairs_of(images) == set()


def test_a_settled_pair_is_not_compared():
    images = [scene(0), scene(0).rotate(6)]
    assert pairs_of(images, lambda first, second: np.ones(len(first), bool)) == set()


def test_pictures_without_corners_and_no_pictures_have_no_pairs():
    assert pairs_of([Image.new("RGB", (64, 48))] * 3) == set()
    assert list(reframed(Compared(records.of_pictures([]), []), np.equal)) == []


class Described:
    """Frames by their descriptions alone."""

    def __init__(self, frames, descriptions):
        self.frames, self.descriptions = frames, descriptions

    def __len__(self):
        return int(self.frames.max()) + 1

    def strongest(self):
        return self.frames, self.descriptions


def by_search(frames, descriptions):
    """Round -> candidates: whoever is at most four places away in two orders or more."""
    votes = Counter()
    for number in range(8):
        keys = [bytes(np.roll(d, -3 * number)[:8]) for d in descriptions]
        assert len(set(keys)) == len(keys)  # else the order of equal ones would count
        order = sorted(range(len(keys)), key=keys.__getitem__)
        for place, one in enumerate(order):
            for other in order[place + 1 : place + 5]:
                first, second = sorted((int(frames[one]), int(frames[other])))
                if keys[one][:3] == keys[other][:3] and first != second:
                    votes[first, second] += 1
    ranked = {}
    for (first, second), count in sorted(votes.items(), key=lambda row: (-row[1], row[0])):
        if count >= 2:
            ranked.setdefault(first, []).append(second)
    rounds = [[(f, s[r]) for f, s in sorted(ranked.items()) if r < len(s)] for r in range(12)]
    return [pairs for pairs in rounds if pairs]


def test_candidates_are_the_neighbours_in_the_orders_those_of_most_votes_first():
    rng = np.random.default_rng(11)  # the first without equal keys
    frames = np.repeat(np.arange(40, dtype=np.int32), 4)
    octets = rng.integers(0, 256, (160, 32))
    descriptions = np.where(rng.uniform(size=octets.shape) < 0.45, 0, octets).astype(np.uint8)
    (found,) = candidates(Described(frames, descriptions))
    wanted = by_search(frames, descriptions)
    assert len(wanted) == 12
    assert wanted[0][0][0] == 0
    assert [[tuple(pair) for pair in pairs.tolist()] for pairs in found] == wanted
