"""The ACCIDENT score against its published formula, written out clip by clip."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.outside.accident_score import SIGMAS, Claim, Label, harmonic_mean, score

TYPES = ("head-on", "rear-end", "sideswipe", "single", "t-bone")

shares = st.floats(0, 1)
claims = st.builds(Claim, st.floats(0, 120), shares, shares, st.sampled_from(TYPES))
labels = st.builds(Label, claims, st.floats(0.01, 1), st.floats(0.01, 1))
pairs = st.lists(st.tuples(claims, labels), min_size=1, max_size=12)


def slowly(pairs: list[tuple[Claim, Label]]) -> dict[str, float]:
    """The formula of the benchmark's metrics.py, one clip at a time, without arrays."""
    sigma_x = statistics.fmean(label.width for _, label in pairs)
    sigma_y = statistics.fmean(label.height for _, label in pairs)
    found = {}
    for sigma in SIGMAS:
        times, places = [], []
        for said, (true, _, _) in pairs:
            times.append(math.exp(-((said.time - true.time) ** 2) / (2 * sigma**2)))
            across = (said.x - true.x) ** 2 / (2 * (sigma_x * sigma) ** 2)
            down = (said.y - true.y) ** 2 / (2 * (sigma_y * sigma) ** 2)
            places.append(math.exp(-(across + down)))
        found[f"temporal {sigma:g}"] = statistics.fmean(times)
        found[f"spatial {sigma:g}"] = statistics.fmean(places)
    found["type"] = statistics.fmean(said.type == label.truth.type for said, label in pairs)
    parts = [found["temporal 1"], found["spatial 1"], found["type"]]
    found["unified"] = 0.0 if min(parts) <= 0 else 3 / sum(1 / part for part in parts)
    return found


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_the_scores_are_those_of_the_formula_clip_by_clip(
    pairs: list[tuple[Claim, Label]],
) -> None:
    found = score([said for said, _ in pairs], [label for _, label in pairs])
    expected = slowly(pairs)
    for sigma in ("0.5", "1", "2"):
        for name in ("temporal", "spatial"):
            assert found[name][sigma]["value"] == pytest.approx(expected[f"{name} {sigma}"])
    assert found["type_accuracy"]["value"] == pytest.approx(expected["type"])
    assert found["unified_score"]["value"] == pytest.approx(expected["unified"], abs=1e-12)
    for entry in (found["temporal"]["1"], found["type_accuracy"], found["unified_score"]):
        assert -1e-12 <= entry["low"] <= entry["high"] <= 1 + 1e-12


def label(time: float = 4.0, x: float = 0.5, y: float = 0.5, type: str = "single") -> Label:
    return Label(Claim(time, x, y, type), 0.2, 0.1)


def test_what_is_right_scores_one_and_one_sigma_off_scores_exp_of_minus_a_half() -> None:
    right = score([Claim(4.0, 0.5, 0.5, " Single ")] * 2, [label()] * 2)
    assert right["unified_score"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    off = score([Claim(5.0, 0.7, 0.5, "single")], [label()])
    assert off["temporal"]["1"]["value"] == pytest.approx(math.exp(-0.5))
    assert off["spatial"]["1"]["value"] == pytest.approx(math.exp(-0.5))  # a box's width
    below = score([Claim(4.0, 0.5, 0.6, "single")], [label()])
    assert below["spatial"]["1"]["value"] == pytest.approx(math.exp(-0.5))  # a box's height
    assert below["spatial"]["0.5"]["value"] == pytest.approx(math.exp(-2))
    assert off["temporal"]["2"]["value"] == pytest.approx(math.exp(-1 / 8))


def test_one_part_without_merit_leaves_none_to_the_whole() -> None:
    wrong = score([Claim(4.0, 0.5, 0.5, "t-bone")], [label()])
    assert wrong["unified_score"]["value"] == 0.0


@pytest.mark.parametrize(
    ("temporal", "spatial", "kind", "unified"),
    [
        # Rows of the zero-shot leaderboard (data/leaderboards.js at commit 368d291 and
        # data/leaderboards/zero-shot.json at 414a26d), as far as they print their parts.
        (0.548569681719332, 0.4677403342188529, 0.5027133695115935, 0.5041960940058913),
        (0.19, 0.25, 0.335, 0.244933),
        (0.315, 0.441, 0.29, 0.337441),
        (0.315, 0.335, 0.415, 0.350086),
    ],
)
def test_the_whole_of_published_parts_is_the_published_whole(
    temporal: float, spatial: float, kind: float, unified: float
) -> None:
    whole = float(harmonic_mean(np.array([temporal, spatial, kind])))
    assert whole == pytest.approx(unified, abs=1e-6)


def test_the_interval_of_the_whole_is_that_of_whole_samples() -> None:
    """Half of the clips right, half hopeless: a sample's score is near its share of the first."""
    said = [Claim(4.0, 0.5, 0.5, "single")] * 50 + [Claim(90.0, 0.0, 1.0, "t-bone")] * 50
    found = score(said, [label()] * 100)["unified_score"]
    assert found["value"] == pytest.approx(0.5)
    assert 0.38 < found["low"] < 0.43
    assert 0.57 < found["high"] < 0.62


@pytest.mark.parametrize("claims", [[], [Claim(4.0, 0.5, 0.5, "single")]])
def test_other_than_one_claim_for_each_clip_is_refused(claims: list[Claim]) -> None:
    with pytest.raises(ValueError, match="expected one for each"):
        score(claims, [label()] * 2 if claims else [])
