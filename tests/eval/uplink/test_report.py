"""The study's text, to the letter."""

from typing import Any

from eval.uplink.report import my_link, real_link, report, round_trips
from tests.eval.uplink.small_study import small_study

REPORT = """\
# Transmission study

## Table 3

Mean ± standard deviation over 3 seeds, the paper's figure in brackets. C0 was fitted to the paper's Table 3 on the Zoom series of the 5G Traffic sets, so agreement there is calibration, not evidence. The evidence is what holds on perturbed settings and on other links. JSON-Only (block C) raises no alert for 2.5 events, which count as late as its latest one; without them, as the paper's figure seems to be, its W-Alarm is 0.0400 s.

| Method | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |
| --- | --- | --- | --- | --- |
| **Block A. Medium (0.25x)** |  |  |  |  |
| Priority-Only | 0.1750 ± 0.2500 (0.0531) | 90.00 ± 0.25 (98.33) | 95.00 ± 0.25 (99.17) | 0.2500 ± 0.2500 (0.1081) |
| DAT | 0.0525 ± 0.2500 (0.0531) | 98.00 ± 0.25 (98.33) | 99.50 ± 0.25 (99.17) | 0.1500 ± 0.0000 (0.1081) |
| **Block B. Burst (0.25x)** |  |  |  |  |
| Bandwidth-Only | 0.2500 ± 0.2500 (0.0531) | 80.00 ± 0.25 (98.33) | 90.00 ± 0.25 (99.17) | 0.5000 ± 0.2500 (0.1081) |
| Priority-Only | 0.1750 ± 0.2500 (0.0531) | 90.00 ± 0.25 (98.33) | 95.00 ± 0.25 (99.17) | 0.2500 ± 0.2500 (0.1081) |
| DAT | 0.0525 ± 0.2500 (0.0531) | 98.00 ± 0.25 (98.33) | 99.50 ± 0.25 (99.17) | 0.1200 ± 0.2500 (0.1081) |
| **Block C. Carrier (burst, 0.25x)** |  |  |  |  |
| JSON-Only | 0.0525 ± 0.2500 (0.0531) | 98.00 ± 0.25 (98.33) | - | 0.1200 ± 0.2500 (0.1081) |

## Fig. 5: visual deadline

DAT, burst, 0.25x. A visual's age counts from capture: counted from queue entry, no deadline of 1 s or more could ever bind.

| D_vis (s) | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |
| --- | --- | --- | --- | --- |
| 1 | 0.0500 ± 0.2500 | 90.00 ± 0.25 | 92.00 ± 0.25 | 0.1000 ± 0.2500 |
| 1.5 | 0.0500 ± 0.2500 | 90.00 ± 0.25 | 98.00 ± 0.25 | 0.1000 ± 0.2500 |
| 2 | 0.0500 ± 0.2500 | 90.00 ± 0.25 | 98.25 ± 0.25 | 0.1000 ± 0.2500 |
| 3 | 0.0600 ± 0.2500 | 90.00 ± 0.25 | 97.00 ± 0.25 | 0.1000 ± 0.2500 |

## Fig. 6: source of priorities

Burst, 0.25x. Predicted priorities have 1.17 % wrong levels (1 - SevAcc of Table 1) and scores with noise of 0.1, our choice; W-Alarm is weighted by the true ones in all rows.

| Priorities | Method | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |
| --- | --- | --- | --- | --- | --- |
| predicted | Priority-Only | 0.1750 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2500 ± 0.2500 |
| predicted | DAT | 0.0525 ± 0.2500 | 98.00 ± 0.25 | 99.50 ± 0.25 | 0.1200 ± 0.2500 |
| ground truth | Priority-Only | 0.1750 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2500 ± 0.2500 |
| ground truth | DAT | 0.0525 ± 0.2500 | 98.00 ± 0.25 | 99.50 ± 0.25 | 0.1200 ± 0.2500 |

## All arrival patterns and bandwidth scales

| Arrivals | Bandwidth | Method | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |
| --- | --- | --- | --- | --- | --- | --- |
| medium | 0.25x | DAT | 0.0525 ± 0.2500 | 98.00 ± 0.25 | 99.50 ± 0.25 | 0.1200 ± 0.2500 |

## What holds elsewhere

How often each ordering holds: on C0's seeds, and when sizes, arrival rates, bandwidth and window are drawn at random within ±50 %. DAT drops a visual that is too old since capture and a baseline sends it all the same, so a difference of one event of 600 counts as a tie, except in the rows that say strictly. Whether the paper's own order holds in the fragile ones depends on the setting.

| Ordering | C0 (calibration) | Perturbed (evidence) |
| --- | --- | --- |
| a < b | 3 of 3 | 3 of 4 |
| strictly: a < b | 2 of 3 | 2 of 4 |
| fragile: c < d | 1 of 3 | 1 of 4 |

## Links that C0 was not fitted to

DAT / Priority-Only at burst, 0.25x, one run each, and how many of the orderings that must hold do.

| Link | Hold | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |
| --- | --- | --- | --- | --- | --- |
| constant | 1 of 1 | 0.0525 / 0.0525 | 98.00 / 98.00 | 99.50 / 99.50 | 0.1200 / 0.1200 |
| outages | 0 of 1 | 0.0525 / 0.0525 | 98.00 / 98.00 | 99.50 / 99.50 | 0.1200 / 0.1200 |

## Beyond the paper, counted from capture

Burst. `dat` is Algorithm 1, `dat_plus` selects the visuals of a slot optimally, short slots never send what is larger than one slot, `dat_live` does not wait for slots; with a first layer a visual counts once a quarter of its bytes has arrived. `json_live` sends alerts only. No scheduler beats the clairvoyant bounds (visuals within 0.5 s; mean delay when all are delivered).

| Bandwidth, D_vis | Burst arrives | Planner | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) | priority shown in time (%) |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 0.25x, 1.5 s | spread over 1 s | dat | 0.5000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 60.00 ± 0.25 |
| 0.25x, 1.5 s | spread over 1 s | dat_plus | 0.5000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 66.00 ± 0.25 |
| 0.25x, 1.5 s | spread over 1 s | dat_live | 0.0625 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 80.00 ± 0.25 |
| 0.25x, 1.5 s | spread over 1 s | json_live | 0.0550 ± 0.2500 | 0.00 ± 0.25 | 0.00 ± 0.25 | 0.2000 ± 0.2500 | 0.00 ± 0.25 |
| 0.25x, 1.5 s | spread over 1 s | clairvoyant bound | - | 99.00 ± 0.50 | - | 0.1000 ± 0.5000 | - |
| 0.25x, 1.5 s | simultaneous | dat | 0.5000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 60.00 ± 0.25 |
| 0.25x, 1.5 s | simultaneous | dat_plus | 0.5000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 66.00 ± 0.25 |
| 0.25x, 1.5 s | simultaneous | dat_live | 0.0555 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 80.00 ± 0.25 |
| 0.25x, 1.5 s | simultaneous | json_live | 0.0550 ± 0.2500 | 0.00 ± 0.25 | 0.00 ± 0.25 | 0.2000 ± 0.2500 | 0.00 ± 0.25 |
| 0.25x, 1.5 s | simultaneous | clairvoyant bound | - | 99.00 ± 0.50 | - | 0.1000 ± 0.5000 | - |
| 0.1x, 1 s | spread over 1 s | dat | 2.0000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 60.00 ± 0.25 |
| 0.1x, 1 s | spread over 1 s | dat_plus | 2.0000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 66.00 ± 0.25 |
| 0.1x, 1 s | spread over 1 s | dat_live | 1.0000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 80.00 ± 0.25 |
| 0.1x, 1 s | spread over 1 s | json_live | 0.0550 ± 0.2500 | 0.00 ± 0.25 | 0.00 ± 0.25 | 0.2000 ± 0.2500 | 0.00 ± 0.25 |
| 0.1x, 1 s | spread over 1 s | clairvoyant bound | - | 99.00 ± 0.50 | - | 0.1000 ± 0.5000 | - |

## A wrong bandwidth

Burst, 0.25x, counted from capture: the bandwidth that the planner is given differs from what the link carries.

| Planner, bandwidth | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) | priority shown in time (%) |
| --- | --- | --- | --- | --- | --- |
| dat_live, true | 0.1000 ± 0.2500 | 90.00 ± 0.25 | 95.00 ± 0.25 | 0.2000 ± 0.2500 | 80.00 ± 0.25 |
| dat_live, 30 % too low | 0.1000 ± 0.2500 | 90.00 ± 0.25 | 94.75 ± 0.25 | 0.2000 ± 0.2500 | 80.00 ± 0.25 |
| dat_live, 30 % too high | 0.1000 ± 0.2500 | 90.00 ± 0.25 | 95.50 ± 0.25 | 0.2000 ± 0.2500 | 80.00 ± 0.25 |

## Several cameras on one link

Burst, 0.1x, counted from capture. Where one camera crowds the link, the last column is the worst of the others.

| Cameras | Load | Planner | W-Alarm (s) | priority shown in time (%) | worst camera's (%) |
| --- | --- | --- | --- | --- | --- |
| 2 | alike | dat_live | 0.1000 ± 0.0100 | 90.00 ± 1.00 | 80.00 ± 2.00 |
| 2 | one has five times the bursts | dat_live | 0.1000 ± 0.0100 | 90.00 ± 1.00 | 80.00 ± 2.00 |

## Distance from the optimum

Priority shown in time that one interval's plan loses against the optimum (mixed-integer program, HiGHS), mean / worst of 60 random instances, percent.

| Visuals | Budget / bytes | dat | dat_plus |
| --- | --- | --- | --- |
| 40 | 25 % | 4.00 / 9.00 | 0.00 / 0.00 |
| 100 | 25 % | 4.00 / 9.00 | 0.50 / 1.00 |
"""  # noqa: E501


def test_the_report_has_every_table_with_what_it_shows() -> None:
    assert report(small_study()) == REPORT


def test_a_quick_study_has_the_first_three_tables() -> None:
    study = small_study()
    quick = {name: study[name] for name in ("seeds", "table3", "fig5", "fig6")}
    assert report(quick) == REPORT.partition("\n## All arrival patterns")[0]


RUN = {"w_alarm": 0.0525, "vtr_05": 98.0, "vtr_1": 99.5, "avg_visual_delay": None}


def test_what_a_link_would_have_done_is_a_line_a_planner() -> None:
    row = {"planner": "dat", **RUN, "on_time": 61.25, "no_alert": 2}
    head, table = my_link([row], 20, 60).split("\n\n| Planner")
    assert head == (
        "# What this link would have done\n\n20 events over 60 s of bandwidth (repeated if the "
        "events last longer), delays counted from capture."
    )
    assert table.splitlines()[0].split(" | ")[-1] == "alerts never sent |"
    assert table.splitlines()[2:] == ["| dat | 0.0525 | 98.00 | 99.50 | - | 61.25 | 2 |"]


def test_a_real_link_stands_below_the_simulated_one() -> None:
    row = {"scheme": "DAT", "simulated": RUN, "real": RUN | {"w_alarm": 0.06}}
    head, _, *lines = real_link([row], 20, 60).splitlines()
    assert head == (
        "Burst, 0.25x, 20 events in 60 s, delays from capture. Real: TCP over loopback in a "
        "network namespace, shaped by tbf."
    )
    assert lines == [
        "| Scheme | Link | W-Alarm (s) | VTR@0.5s (%) | VTR@1s (%) | Avg visual delay (s) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| DAT | simulated | 0.0525 | 98.00 | 99.50 | - |",
        "| DAT | real | 0.0600 | 98.00 | 99.50 | - |",
    ]


def round_trip(**more: Any) -> dict[str, Any]:
    run = {
        "waits": {"P50": 0.0124, "P95": 0.05, "P99": 1.0, "max": None},
        "in_time": 97.25,
        "w_alarm": 0.05,
        "vtr_1": 99.0,
        "avg_visual_delay": 0.1,
        "first_visual_delay": 0.2,
    }
    row = {"rate": "0.25x", "round_trip": 0.05, "sender": "fifo", "loss": 0, "congestion": "bbr"}
    return {**row, "simulated": run, **more}


def test_round_trips_show_simulated_and_real_beside_one_another() -> None:
    simulated = round_trip()
    real = dict(simulated["simulated"], w_alarm=0.06)
    apart = {"alerts": (10.0, 5.0, 15.0), "visuals": (None, None, None)}
    measured = round_trip(real=real, apart=apart, moved=98.5, loss=0.005, congestion="cubic")
    head, _, *lines = round_trips([simulated, measured], 20, 60).splitlines()
    assert head.startswith("Burst, 20 events in 60 s, delays from capture; simulated | real. The")
    assert lines[0].endswith("| at first (s) | W-Alarm apart (%) | visuals apart (%) |")
    assert lines[2:] == [
        "| 0.25x, 50 ms | fifo | 12/50/1000/never | 97.2 | 0.0500 | 99.0 |  | 0.100 | 0.200 |",
        "| 0.25x, 50 ms | fifo, 0.5 % loss, CUBIC | 12/50/1000/never \\| 12/50/1000/never "
        "| 97.2 \\| 97.2 | 0.0500 \\| 0.0600 | 99.0 \\| 99.0 | 98.5 | 0.100 \\| 0.100 "
        "| 0.200 \\| 0.200 | +10.0 (+5.0 to +15.0) |  |",
    ]
    assert "apart" not in round_trips([simulated], 20, 60).splitlines()[2]
