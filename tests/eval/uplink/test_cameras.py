"""Several cameras on one link, one of which may crowd it."""

import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from eval.uplink import cameras
from eval.uplink.sending import Delivery
from tests.eval.uplink.crowded import RATES, SETTING
from tests.eval.uplink.events import event

FASTER = [4 * rate for rate in RATES]

CROWDED = {
    "dat": [0.5582, 72.8151, 82.2616],
    "dat_plus": [0.5582, 76.7975, 82.2616],
    "dat_live": [0.0551, 94.7058, 93.9775],
    "dat_live, fair": [0.0538, 90.1461, 100.0],
}
"""W-Alarm, priority shown in time, and that of the worst camera."""

ALIKE = {
    "dat": [0.6208, 93.0057, 88.2731],
    "dat_plus": [0.6208, 97.9289, 97.9079],
    "dat_live": [0.0558, 100.0, 100.0],
    "dat_live, fair": [0.0559, 100.0, 100.0],
}


def rounded(runs: dict[str, dict[str, float]]) -> dict[str, list[float]]:
    return {
        name: [round(columns[column], 4) for column in ("w_alarm", "on_time", "worst")]
        for name, columns in runs.items()
    }


def test_every_planner_has_its_figures_on_a_crowded_link_and_on_one_of_equals() -> None:
    assert rounded(cameras._camera_run(SETTING, FASTER, (2, True, 0))) == CROWDED
    assert rounded(cameras._camera_run(SETTING, FASTER, (2, False, 1))) == ALIKE


def test_the_first_camera_crowds_with_five_times_the_events_in_larger_bursts() -> None:
    crowding, other, alike = (
        cameras._of_camera(SETTING, camera, crowded, 0)
        for camera, crowded in ((0, True), (1, True), (0, False))
    )
    assert [len(crowding), len(other), len(alike)] == [30, 6, 6]
    assert {e.camera for e in crowding} == {"camera 0"}
    assert {e.camera for e in other} == {"camera 1"}
    assert other[0].id == "camera 1 e00000"
    together = [e.entered_at for e in crowding].count(crowding[0].entered_at)
    assert 20 <= together <= 35
    assert {e.priority for e in other}.isdisjoint(e.priority for e in alike)
    again = cameras._of_camera(SETTING, 0, False, 1)
    assert {e.priority for e in again}.isdisjoint(e.priority for e in alike)


def test_the_worst_camera_is_one_of_the_others() -> None:
    deliveries = []
    for camera, shown in (("camera 0", None), ("camera 1", 1.5), ("camera 2", 9.0)):
        of_camera = event(entered=1.0)
        deliveries.append(Delivery(of_camera, json_at=1.1, visual_at=shown, visual_kind="box"))
        object.__setattr__(of_camera, "camera", camera)
    deliveries += deliveries[1:2]
    crowded = cameras._columns(SETTING, deliveries, True)
    assert (crowded["on_time"], crowded["worst"]) == (50, 0)
    assert cameras._columns(SETTING, deliveries[:2], True)["worst"] == 100
    assert cameras._columns(SETTING, deliveries[:2], False)["worst"] == 0


def test_a_row_is_one_planner_with_so_many_cameras() -> None:
    rows = cameras.camera_study(SETTING, FASTER, 2)
    cases = [(row["cameras"], row["crowded"]) for row in rows[::4]]
    assert cases == [(1, False), (2, False), (2, True), (4, False), (4, True)]
    assert [row["planner"] for row in rows[:4]] == list(ALIKE)
    runs = [cameras._camera_run(SETTING, FASTER, (2, True, seed))["dat"] for seed in range(2)]
    (row,) = [row for row in rows[8:12] if row["planner"] == "dat"]
    for column in ("w_alarm", "on_time", "worst"):
        assert row[column]["mean"] == sum(run[column] for run in runs) / 2
