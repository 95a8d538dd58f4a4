"""How much of the optimum one interval's plan loses."""

import numpy as np
import pytest
import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from eval.uplink import gaps


def test_what_a_plan_loses_is_a_share_of_the_optimum_in_percent() -> None:
    row = gaps._gaps(2, (8, 0.5))
    assert (row["visuals"], row["budget"], row["instances"]) == (8, 0.5, 2)
    # One of the two plans is the best there is.
    assert row["dat"]["mean"] == pytest.approx(0.8778764795528526)
    assert row["dat"]["worst"] == pytest.approx(2 * row["dat"]["mean"])
    assert gaps._gaps(1, (8, 0.25)) != gaps._gaps(1, (8, 0.26))
    assert row["dat_plus"] == pytest.approx({"mean": 0, "worst": 0}, abs=1e-9)


def test_visuals_are_as_large_as_real_ones_and_the_budget_is_a_share_of_them() -> None:
    events, bandwidth = gaps._instance(np.random.default_rng(0), 2, 0.25)
    assert [event.box_bytes for event in events] == [14773, 12019]
    assert [event.priority for event in events] == pytest.approx([0.088925, 0.822607], abs=1e-6)
    assert [event.captured_at for event in events] == pytest.approx([0.016528, 0.912756], abs=1e-6)
    assert bandwidth == 6698.0
    assert [event.id for event in events] == ["e0", "e1"]
    assert all(event.json_sent and event.roi_bytes is None for event in events)


def test_the_optimum_is_that_of_what_is_still_in_time() -> None:
    events, _ = gaps._instance(np.random.default_rng(0), 2, 0.25)
    best = max(event.priority for event in events)
    both = sum(event.priority for event in events)
    sizes = [event.box_bytes or 0 for event in events]
    assert gaps._optimum(events, 1e9) == pytest.approx(both)
    assert gaps._optimum(events, sum(sizes) - 1) == pytest.approx(best)
    assert gaps._optimum(events, min(sizes) / 2) == 0
