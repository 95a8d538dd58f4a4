"""How the planner's speed is measured: the events, the fastest of the calls, the demands."""

import pytest

from dat_runtime.schedule import PendingEvent
from eval.uplink import plan_speed
from eval.uplink.plan_speed import best_ms, drawn, measured


def test_events_have_roughly_c0s_sizes_and_are_the_same_each_time() -> None:
    assert drawn(2) == [
        PendingEvent("e0", pytest.approx(0.6460376), 392, 5783, 24021),
        PendingEvent("e1", pytest.approx(0.2880420), 312, 3611, 75061),
    ]
    assert drawn(2, seed=1)[0].priority != drawn(2)[0].priority
    many = drawn(1000)
    for sizes, low, high in (
        ([event.json_bytes for event in many], 300, 600),
        ([event.roi_bytes or 0 for event in many], 3_000, 40_000),
        ([event.box_bytes or 0 for event in many], 10_000, 90_000),
    ):
        assert low <= min(sizes) < low * 1.1
        assert high * 0.98 < max(sizes) < high
    priorities = [event.priority for event in many]
    assert 0.025 <= min(priorities) < 0.03
    assert 0.99 < max(priorities) < 1


class Clock:
    """Each call of `process_time` is one of the given seconds."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = iter(seconds)

    def process_time(self) -> float:
        return next(self._seconds)


def test_the_fastest_call_counts_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    # The end is at 2; then, call by call: is it over, begun, done.
    clock = Clock(0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 2.5, 2.5)
    monkeypatch.setattr(plan_speed, "time", clock)
    calls: list[int] = []
    assert best_ms(lambda: calls.append(1), 2.0) == 250
    assert len(calls) == 3


def test_work_is_done_once_however_little_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_speed, "time", Clock(0.0, 0.0, 0.0, 3.0, 3.0))
    assert best_ms(lambda: None, 0.0) == 3000


def test_a_row_is_a_number_of_events_and_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = []

    def of(work: object, given: float) -> float:
        seconds.append(given)
        return 2.0 if len(seconds) == 1 else 5.0

    monkeypatch.setattr(plan_speed, "best_ms", of)
    monkeypatch.setattr(plan_speed, "LIMITS_MS", {10: 0.5, 2000: 60.0})
    few, all_few, many, all_many = measured(4.0)
    assert seconds == [2.0, 4.0, 4.0, 4.0, 4.0]
    assert few == {
        "events": 10,
        "budget": "a second, 475 kB/s",
        "units": few["units"],
        "plan_ms": 5.0,
        "argsorts": 2.5,
        "argsort_ms": 2.0,
        "limit_ms": 0.5,
        "limit_argsorts": pytest.approx(0.5 / 9),
    }
    assert (many["events"], many["limit_ms"]) == (2000, 60.0)
    assert many["limit_argsorts"] == pytest.approx(60 / 9)
    # Within a second 475,000 bytes go: about a thousand alerts of 450, the shortest a little more.
    assert 1000 < many["units"] < 1200
    assert few["units"] == 20  # with each its visual
    assert 10 <= all_few["units"] < 20
    assert 2000 <= all_many["units"] < 2050  # every alert, and what is left of 500 bytes each
    assert all_many["budget"] == "every alert"
    assert all_many["limit_ms"] is None
