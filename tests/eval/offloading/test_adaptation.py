"""The controller over links: what it may know, what waits, and what counts as missed."""

import math

import pytest

from dat_runtime.offload_table import Row
from eval.offloading import behaviour, scenarios
from eval.offloading.adaptation import LAST, LOW, Clip, Controller, Window, follow
from eval.offloading.printed import models
from eval.offloading.scenarios import Scenario
from eval.offloading.shapes import check

SMALL = Row("small", "code", 1_000, 0.6, edge_s=0.1)
LARGE = Row("large", "code", 5_000, 0.7, edge_s=0.1)
EDGE = Row("edge", "edge", 0, 0.65, edge_s=0.45)
ROWS = (SMALL, LARGE, EDGE)


def rows_taken(clips: list[Clip]) -> list[str]:
    return [clip.row for clip in clips]


def test_a_constant_link_is_foreseen_exactly() -> None:
    """At 10,000 bytes/s small takes 0.2 s and large 0.6 s."""
    windows = [Window(0, 2, 0.6), Window(2, 4, 0.5), Window(4, 6, 0.2), Window(6, 8, 0.1)]
    clips = follow(ROWS, [10_000.0] * 8, windows, LAST)
    assert rows_taken(clips) == ["large"] * 2 + ["edge"] * 2 + ["small"] * 4
    assert [clip.latency for clip in clips[::2]] == pytest.approx([0.6, 0.45, 0.2, 0.2])
    assert [clip.possible for clip in clips[::2]] == [True, True, True, False]
    assert [clip.kept for clip in clips[::2]] == [True, True, True, False]
    assert clips[0].best_accuracy == 0.7
    assert clips[6].best_accuracy is None


def test_the_future_is_not_known_but_judges() -> None:
    """The link falls in second 2: the controller still counts on what second 1 had."""
    rates = [10_000.0, 10_000.0, 2_500.0, 2_500.0]
    clips = follow(ROWS, rates, [Window(0, 4, 0.6)], LAST)
    assert rows_taken(clips) == ["large", "large", "large", "edge"]
    assert clips[2].latency > 2
    assert (clips[2].possible, clips[2].kept) == (True, False)
    assert clips[2].best_accuracy == 0.65


def test_a_low_quantile_remembers_that_the_link_fell() -> None:
    rates = [10_000.0, 2_500.0, *[10_000.0] * 10]
    clips = follow(ROWS, rates, [Window(0, 12, 0.6)], LOW)
    # Second 1 leaves the last eight after second 8.
    assert rows_taken(clips) == ["large", "large", *["edge"] * 8, "large", "large"]


def test_what_waits_ahead_counts() -> None:
    """Four clips a second of 5,000 bytes are twice what the link carries."""
    windows = [Window(0, 3, 0.75)]
    codes = (SMALL, LARGE)
    counting = follow(codes, [10_000.0] * 3, windows, LAST, clips_a_second=4)
    assert all(clip.kept for clip in counting)
    assert {"small", "large"} == set(rows_taken(counting))
    blind = Controller("d/B alone", 1, 0.0, counts_queue=False)
    others = follow(codes, [10_000.0] * 3, windows, blind, clips_a_second=4)
    assert set(rows_taken(others)) == {"large"}
    late = [clip.latency for clip in others]
    assert late[:3] == pytest.approx([0.6, 0.85, 1.1])
    assert not any(clip.kept for clip in others[1:])


def test_a_link_that_is_down_leaves_the_edge() -> None:
    rates = [10_000.0, 0.0, 0.0, 10_000.0]
    clips = follow(ROWS, rates, [Window(0, 4, 1.0)], LAST)
    assert rows_taken(clips) == ["large", "large", "edge", "edge"]
    assert clips[1].latency == pytest.approx(2.5)  # it waits until second 3


def test_an_accuracy_is_kept_with_the_least_latency() -> None:
    windows = [Window(0, 1, None, 0.61), Window(1, 2, None, 0.71)]
    clips = follow(ROWS, [10_000.0] * 2, windows, LAST)
    assert rows_taken(clips) == ["edge", "large"]
    assert [(clip.possible, clip.kept) for clip in clips] == [(True, True), (False, False)]


def test_figures_count_infeasible_clips_apart() -> None:
    rates = (10_000.0, 10_000.0, 2_500.0, 2_500.0)
    scenario = Scenario("x", (rates,), (Window(0, 3, 0.61), Window(3, 4, 0.05)))
    figures = behaviour.of_scenario(scenario, ROWS)[0]
    assert (figures["cameras"], figures["controller"]) == (1, "last sample")
    kept = figures["latency"]
    assert (kept["clips"], kept["infeasible"], kept["missed"]) == (4, 1, 1)
    assert kept["missed_share"] == pytest.approx(1 / 3)
    assert kept["mean_accuracy"] == pytest.approx(0.7)
    assert kept["best_accuracy"] == pytest.approx((0.7 + 0.7 + 0.65) / 3)
    assert [window["missed"] for window in figures["windows"]] == [1, 0]


class TestFig9:
    model = models()[0]
    rows = scenarios.rows_of(model, check(model))

    def test_its_rows_are_the_eight_codes_and_the_edge(self) -> None:
        assert [row.kind for row in self.rows] == ["edge", *["code"] * 8]
        by_name = {row.name: row for row in self.rows}
        assert by_name["Edge-only"].latency(0) == pytest.approx(0.4669)
        code = by_name["ApproxBit-128-NoEnc-B16"]
        assert 1000 * code.latency(3 * 125_000) == pytest.approx(517.4, abs=0.1)

    def test_its_link_has_the_speeds_and_the_spread(self) -> None:
        links = [scenarios.fluctuating(seed) for seed in range(20)]
        assert {len(link) for link in links} == {300}
        for place, mbps in enumerate((50, 3, 6, 50, 3, 6)):
            rates = [r / 125_000 for link in links for r in link[50 * place : 50 * place + 50]]
            mean = math.fsum(rates) / len(rates)
            spread = math.sqrt(math.fsum((r - mean) ** 2 for r in rates) / len(rates)) / mean
            assert mean == pytest.approx(mbps, rel=0.05)
            assert spread == pytest.approx(0.25, abs=0.04)

    def test_targets_follow_one_another(self) -> None:
        windows = scenarios.fig_9(1).windows
        assert [(w.start, w.end) for w in windows] == [(50 * i, 50 * i + 50) for i in range(6)]
        assert [w.max_latency for w in windows] == [0.3, 0.4, 0.5, None, None, None]
        assert [w.min_accuracy for w in windows] == [None, None, None, 0.68, 0.695, 0.71]

    def test_the_low_quantile_misses_less_than_half_of_what_the_last_sample_misses(self) -> None:
        scenario = scenarios.fig_9(5)
        missed = {}
        for controller in (LAST, LOW):
            clips = [
                clip
                for link in scenario.links
                for clip in follow(self.rows, link, scenario.windows, controller)
            ]
            timed = [clip for clip in clips if clip.window < 3 and clip.possible]
            graded = [clip for clip in clips if clip.window in (3, 4)]
            missed[controller.name] = sum(not clip.kept for clip in timed)
            assert all(clip.kept for clip in graded)
            assert not any(clip.possible for clip in clips if clip.window == 5)  # 71 %
        assert 0 < 2 * missed[LOW.name] < missed[LAST.name]


def test_a_trace_is_rescaled_and_cut() -> None:
    scenario = scenarios.fig_10("x", [1.0, 3.0] * 2_000)
    (link,) = scenario.links
    assert len(link) == 3_000
    assert link[:2] == pytest.approx([7.8 * 125_000 / 2, 7.8 * 125_000 * 1.5])
    assert scenario.windows[-1].end == 3_000
    short = scenarios.fig_10("x", [1.0] * 100)
    assert [w.end - w.start for w in short.windows] == [16, 17, 17, 16, 17, 17]
