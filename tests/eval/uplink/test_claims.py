from dataclasses import replace

import pytest

from eval.uplink.claims import no_worse
from eval.uplink.timeliness import Timeliness


def timeliness(**changes):
    good = Timeliness(0.05, 99.0, 100.0, 0.1, 600, 0, 100.0)
    return replace(good, **changes)


@pytest.mark.parametrize(
    "worse",
    [{"w_alarm": 0.06}, {"vtr_05": 98.0}, {"vtr_1": 99.0}, {"avg_visual_delay": 0.2}],
)
def test_a_scheme_that_is_worse_in_one_column_is_found(worse):
    assert no_worse(timeliness(), timeliness())
    assert not no_worse(timeliness(**worse), timeliness())


def test_one_event_of_600_is_a_tie_and_not_strictly_one():
    ours = timeliness(vtr_1=100 - 100 / 600)
    assert no_worse(ours, timeliness())
    assert not no_worse(ours, timeliness(), lost_events=0)
