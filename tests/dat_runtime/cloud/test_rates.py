"""A token bucket for each node, by a clock of the test's."""

import pytest

pytest.importorskip("fastapi")

from fastapi import HTTPException

from dat_runtime.cloud import rates as module
from dat_runtime.cloud.rates import Rates


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def waits(rates: Rates, name: str, count: int = 1) -> str:
    """The seconds that a refusal asks to wait."""
    with pytest.raises(HTTPException) as refusal:
        rates.take(name, count)
    assert (refusal.value.status_code, refusal.value.detail) == (
        429,
        f"{name}: more than 2 a second",
    )
    assert refusal.value.headers is not None
    return refusal.value.headers["Retry-After"]


def test_a_refusal_says_when_there_will_be_enough_and_takes_nothing() -> None:
    clock = Clock()
    rates = Rates(rate=2, burst=4, clock=clock)
    rates.take("n1", 4)
    assert [waits(rates, "n1", count) for count in (1, 2, 3, 50)] == ["1", "1", "2", "2"]
    clock.now += 1.5
    rates.take("n1", 3)
    assert waits(rates, "n1") == "1"
    rates.take("n2")
    assert waits(rates, "n2", 4) == "1"


def test_a_full_bucket_owes_what_is_above_its_burst() -> None:
    clock = Clock()
    rates = Rates(rate=2, burst=4, clock=clock)
    rates.take("n1", 50)
    assert waits(rates, "n1") == "24"  # 46 owed and one wanted
    clock.now += 23.5
    rates.take("n1")


def test_only_buckets_that_are_full_again_are_forgotten_and_only_for_a_new_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_NODES", 2)
    clock = Clock()
    rates = Rates(rate=2, burst=4, clock=clock)
    rates.take("full", 2)
    rates.take("not yet", 3)
    clock.now += 1
    rates.take("not yet")
    assert set(rates._buckets) == {"full", "not yet"}
    rates.take("new")
    assert set(rates._buckets) == {"not yet", "new"}
