import hashlib

import numpy as np
import pytest

from data.prep.splitting.by_groups import Member, by_groups, rank


@pytest.mark.parametrize("seed", range(5))
def test_groups_go_where_the_shares_are_short(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 300, 1000).tolist()
    strata = ["severe" if rng.random() < 0.2 else "moderate" for _ in groups]
    members = list(map(Member, groups, strata, map(str, range(1000))))
    shares = {s: {"train": 70, "val": 15, "test": 15} for s in ("severe", "moderate")}
    splits = by_groups(members, shares, seed)
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
    for stratum in ("severe", "moderate"):
        splits_of_stratum = [split for split, s in zip(splits, strata, strict=True) if s == stratum]
        for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(splits_of_stratum.count(split) / len(splits_of_stratum) - share) < 0.03


def test_a_stratum_that_is_to_have_none_in_a_split_has_none_there():
    members = [Member(number, "moderate", str(number)) for number in range(40)]
    splits = by_groups(members, {"moderate": {"train": 3, "val": 1, "test": 0}}, seed=0)
    assert [splits.count(split) for split in ("train", "val", "test")] == [30, 10, 0]


def test_another_seed_places_groups_alike_elsewhere():
    members = [Member(number, "moderate", str(number)) for number in range(40)]
    shares = {"moderate": {"train": 2, "val": 1, "test": 1}}
    splits = by_groups(members, shares, seed=0)
    assert splits == by_groups(members, shares, seed=0) != by_groups(members, shares, seed=1)
    backwards = by_groups(members[::-1], shares, seed=0)
    assert backwards[::-1] == splits


def split_of_groups(members, shares, seed=0):
    splits = by_groups(members, shares, seed)
    return {member.group: split for member, split in zip(members, splits, strict=True)}


def test_groups_of_the_sizes_that_are_wanted_fill_the_splits_the_largest_first():
    sizes = {"c": 2, "a": 5, "b": 3}
    members = [Member(g, "moderate", f"{g}{i}") for g, n in sizes.items() for i in range(n)]
    shares = {"moderate": {"train": 5, "val": 3, "test": 2}}
    assert split_of_groups(members, shares) == {"a": "train", "b": "val", "c": "test"}


def test_a_group_of_two_kinds_goes_where_it_helps_both_together():
    """Of eight frames `mixed` holds the three severe ones: they are wanted in val alone."""
    members = [Member("mixed", "severe", f"s{i}") for i in range(3)]
    members += [Member("mixed", "moderate", "m")]
    members += [Member(f"{i}", "moderate", f"{i}") for i in range(4)]
    shares = {
        "severe": {"train": 0, "val": 1, "test": 0},
        "moderate": {"train": 4, "val": 0, "test": 1},
    }
    found = split_of_groups(members, shares)
    assert found["mixed"] == "val"
    assert sorted(split for group, split in found.items() if group != "mixed") == [
        *("test", "train", "train", "train")
    ]


def test_groups_alike_come_in_the_order_of_their_least_digests_and_the_seed():
    members = [Member(number // 2, "moderate", str(number)) for number in range(40)]
    shares = {"moderate": {"train": 2, "val": 1, "test": 1}}
    assert split_of_groups(members, shares) == split_of_groups(members[::-1], shares)
    assert rank("ab", 7) == hashlib.sha256(b"7:ab").hexdigest()
    first = min(range(20), key=lambda group: rank(min(str(2 * group), str(2 * group + 1)), 0))
    assert split_of_groups(members, shares)[first] == "train"
