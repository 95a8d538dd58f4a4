import numpy as np
import pytest

from data.prep.splitting.by_groups import Member, by_groups


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
