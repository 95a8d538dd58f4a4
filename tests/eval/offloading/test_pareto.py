"""Fig. 6: which alternatives no other one beats."""

import pytest

from eval.offloading.pareto import Point, points
from eval.offloading.printed import models
from eval.offloading.shapes import check

MVIT, _, ONEVISION = models()
OF_MVIT = points(MVIT, check(MVIT))


def best(found: list[Point]) -> list[str]:
    return [point.method.removeprefix("ApproxBit-") for point in found if point.best]


def test_fig_6_at_each_bandwidth() -> None:
    assert best(OF_MVIT[3]) == [
        "64-Enc-B8",
        "128-Enc-B8",
        "64-NoEnc-B8",
        "128-Enc-B16",
        "128-NoEnc-B8",
        "64-NoEnc-B16",
        "Edge-only",
    ]
    assert best(OF_MVIT[6]) == [
        "64-Enc-B8",
        "128-Enc-B8",
        "64-NoEnc-B8",
        "128-NoEnc-B8",
        "64-NoEnc-B16",
        "128-NoEnc-B16",
        "Edge-only",
    ]
    assert best(OF_MVIT[50]) == ["LimitNet-High", "LimitNet-Low", *best(OF_MVIT[6])]


@pytest.mark.parametrize("mbps", [3, 6, 50])
def test_the_best_are_those_that_nothing_dominates(mbps: float) -> None:
    found = OF_MVIT[mbps]
    assert len(found) == len(MVIT.rows)
    for point in found:
        beaten = any(
            other.latency_ms <= point.latency_ms
            and other.accuracy >= point.accuracy
            and (other.latency_ms, other.accuracy) != (point.latency_ms, point.accuracy)
            for other in found
        )
        assert point.best == (not beaten)


def test_a_misprint_counts_as_it_should_be() -> None:
    """As printed, DNN Surgery would be ten times as fast at 3 Mbps as it is."""
    slow = next(p for p in points(ONEVISION, check(ONEVISION))[3] if p.method == "DNN Surgery-B8")
    assert slow.latency_ms == 144404.8
