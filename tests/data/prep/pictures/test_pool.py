"""Work in order, by threads or by a cluster that is left out here."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.errors import ConfigError
from data.prep.pictures import pool
from data.prep.pictures.pool import over_all


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("count", [0, 1, 256, 257, 600])
def test_threads_give_results_in_order(count: int) -> None:
    assert list(over_all(double, range(count), "numbers")) == [2 * i for i in range(count)]


def test_work_is_begun_in_batches_and_ends_with_who_takes_it() -> None:
    begun: list[int] = []
    results = over_all(begun.append, range(600), "numbers")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert max(begun) < 256


def test_an_error_is_raised_where_its_result_is_due() -> None:
    results = over_all(lambda number: 10 // number, [5, 2, 0, 1], "numbers")
    assert [next(results), next(results)] == [2, 5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_progress_is_told_every_two_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Begun at 0, then a look at each result and one more where a note is due.
    clock = iter([0.0, 1.0, 2.0, 2.5, 2.5, 4.0, 4.6, 4.6])
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(over_all(double, range(5), "pictures")) == [0, 2, 4, 6, 8]
    assert capsys.readouterr().out.splitlines() == [
        "[data] pictures: 3 of 5",
        "[data] pictures: 5 of 5",
    ]


class Ray:
    """Ray's calls, answered at once in this process; `most` is how many tasks ran together."""

    def __init__(self, cores: dict[str, float], running: bool = False) -> None:
        self.cores, self.running = cores, running
        self.given: dict[str, Any] = {}
        self.batches: list[int] = []
        self.waiting = self.most = 0
        self.ObjectRef = object

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **given: Any) -> None:
        self.given = given

    def cluster_resources(self) -> dict[str, float]:
        return self.cores

    def put(self, value: Any) -> tuple[str, Any]:
        return "shared", value

    def remote(self, function: Any) -> Any:
        def start(work: tuple[str, Any], part: Any) -> list[Any]:
            kind, shared = work
            assert kind == "shared"
            self.batches.append(len(part))
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            done: list[Any] = function(shared, part)
            return done

        return SimpleNamespace(remote=start)

    def get(self, result: list[Any]) -> list[Any]:
        self.waiting -= 1
        return result


@pytest.mark.parametrize(
    ("cores", "most"), [({"CPU": 2.0}, 4), ({"CPU": 1.0, "GPU": 8.0}, 2), ({}, 2)]
)
def test_a_cluster_gets_batches_for_twice_its_cores(
    cores: dict[str, float], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray(cores)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    found = list(over_all(double, range(64 * 5 + 1), "numbers", "ray"))
    assert found == [2 * i for i in range(64 * 5 + 1)]
    assert ray.batches == [64] * 5 + [1]
    assert (ray.most, ray.waiting) == (most, 0)
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    assert ray.given == quiet
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_cluster_that_runs_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray({"CPU": 1.0}, running=True)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    assert list(over_all(double, [1, 2], "numbers", "ray")) == [2, 4]
    assert ray.given == {}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_without_ray_the_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as refused:
        next(over_all(double, [1], "numbers", "ray"))
    assert str(refused.value) == (
        "--engine ray needs Ray: install requirements/ray.txt, or leave --engine out"
    )
