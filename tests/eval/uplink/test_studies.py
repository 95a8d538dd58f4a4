"""The experiments around Table 3 on a link that is too slow, figure by figure."""

from dataclasses import replace

import numpy as np
import pytest

from eval.uplink import beyond, cameras, exactness, gaps, studies, study
from eval.uplink.arrivals import draw
from eval.uplink.claims import FRAGILE, MUST_HOLD
from eval.uplink.replay import compare, compare_at_table_3
from eval.uplink.timeliness import COLUMNS
from eval.uplink.trace import fingerprint, window
from tests.eval.uplink.crowded import C0, RATES, SETTING, TRACE, figures

BURST = {
    "Bandwidth-Only": [0.9133, 22.2222, 38.8889, 1.262],
    "Priority-Only": [0.5161, 16.6667, 38.8889, 1.0353],
    "DAT": [0.0597, 50.0, 66.6667, 0.4531],
    "JSON-Only": [0.0597, 0.0, 0.0, None],
    "Fixed Box Upload": [1.4114, 22.2222, 38.8889, 1.1708],
    "Fixed ROI Upload": [1.7562, 22.2222, 33.3333, 1.4543],
    "Fixed JSON+Box": [0.8532, 22.2222, 38.8889, 1.1838],
}
"""W-Alarm, VTR@0.5, VTR@1, visual delay at 0.25x."""


def test_every_scheme_has_its_figures() -> None:
    assert figures(studies._one_case(SETTING, RATES, ("burst", 0.25, 0)), COLUMNS) == BURST
    assert list(compare(SETTING, RATES, "burst", 0.25, 0, names=("DAT",))) == ["DAT"]
    both = compare_at_table_3(SETTING, RATES, 0)
    assert list(both) == ["medium", "burst"]
    assert figures(both["burst"], COLUMNS) == BURST


def test_every_pattern_meets_every_bandwidth() -> None:
    rows = studies.all_settings(SETTING, RATES, 2)
    cases = [(row["pattern"], row["scale"]) for row in rows[::7]]
    assert cases == [(p, s) for p in ("low", "medium", "burst") for s in (1.0, 0.5, 0.25)]
    assert [row["method"] for row in rows[-7:]] == list(BURST)
    runs = [compare(SETTING, RATES, "burst", 0.25, seed) for seed in range(2)]
    alarms = [run["DAT"].w_alarm for run in runs]
    assert rows[-5]["w_alarm"]["mean"] == pytest.approx(sum(alarms) / 2)


def test_a_later_deadline_shows_more_visuals_and_alarms_no_later() -> None:
    rows = studies.deadline_study(SETTING, RATES, 2)
    assert [row["visual_deadline"] for row in rows] == [0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3]
    shown = [round(row["vtr_1"]["mean"], 4) for row in rows]
    assert shown == [47.2222, 69.4444, 80.5556, 80.5556, 88.8889, 88.8889, 88.8889, 88.8889]
    assert len({round(row["w_alarm"]["mean"], 9) for row in rows}) == 1
    assert rows[3]["w_alarm"]["std"] > 0


def test_predicted_priorities_plan_and_true_ones_weigh() -> None:
    rows = studies.priority_study(SETTING, RATES, 2)
    told = [[row["source"], row["method"], round(row["w_alarm"]["mean"], 4)] for row in rows]
    assert told == [
        ["predicted", "Priority-Only", 0.5409],
        ["predicted", "DAT", 0.06],
        ["ground truth", "Priority-Only", 0.5314],
        ["ground truth", "DAT", 0.0599],
    ]


def test_a_prediction_is_near_the_truth_and_stays_on_its_levels_side() -> None:
    events = draw(replace(C0, events=200), "burst", 0)
    seen = studies.predicted(C0, events, 0)
    assert [round(event.priority, 4) for event in seen[95:105]] == [
        0.8227,
        0.042,
        0.1089,
        0.8151,
        0.25,
        0.0475,
        1.0,
        0.7677,
        0.1594,
        0.8426,
    ]
    assert [round(event.priority, 4) for event in events[95:105]] == [
        0.7812,
        0.1143,
        0.0983,
        0.8326,
        0.1994,
        0.0934,
        0.8975,
        0.8382,
        0.2264,
        0.8196,
    ]
    # A moderate event has S below 0.25, a severe one from 0.75 on: 1.17 % of 200 change sides.
    assert all(event.priority <= 0.25 or event.priority >= 0.75 for event in seen)
    pairs = list(zip(events, seen, strict=True))
    assert sum((a.priority < 0.5) != (b.priority < 0.5) for a, b in pairs) == 5
    assert [replace(b, priority=a.priority) for a, b in pairs] == events


def test_a_perturbed_setting_is_drawn_around_the_canonical_one() -> None:
    drawn = studies.perturbed(C0, 800, 3)
    sizes = drawn.sizes
    numbers = [*sizes.json, *sizes.box, *sizes.roi_of_box, *sizes.other_rois_of_box]
    assert [round(number, 4) for number in (*numbers, sizes.without_roi)] == [
        485.6762,
        0.15,
        21871.3433,
        0.45,
        0.2998,
        1.0,
        0.7335,
        1.0,
        0.0468,
    ]
    arrivals = {name: (round(a.every, 4), a.together) for name, a in drawn.arrivals.items()}
    assert arrivals == {
        "low": (3.1043, (1, 1)),
        "medium": (1.1747, (1, 1)),
        "burst": (4.5222, (5, 8)),
    }
    assert (drawn.trace.start, round(drawn.trace.mean)) == (37, 2524046)
    assert replace(drawn, sizes=C0.sizes, arrivals=C0.arrivals, trace=C0.trace) == C0
    starts = {studies.perturbed(C0, 702, number).trace.start for number in range(40)}
    assert starts == {0, 1, 2}
    assert studies.perturbed(C0, 700, 3).trace.start == 0
    assert studies.perturbed(C0, 1, 3).trace.start == 0
    for number in range(40):
        for name, pattern in studies.perturbed(C0, 800, number).arrivals.items():
            fewest, most = pattern.together
            assert 1 <= fewest <= most
            assert 0.5 <= pattern.every / C0.arrivals[name].every <= 1.5


def test_claims_are_counted_over_perturbed_settings() -> None:
    found = studies.perturbation_study(SETTING, TRACE, 2)
    assert found["draws"] == 2
    assert list(found["must_hold"]) == list(MUST_HOLD)
    assert {*found["must_hold"].values(), *found["strictly"].values()} == {2}
    drawn = studies.perturbed(SETTING, len(TRACE), 1)
    again = compare_at_table_3(drawn, window(TRACE, drawn.trace), 1)
    assert studies._perturbed_run(SETTING, TRACE, 1) == again


def test_links_that_it_was_not_fitted_to_have_its_mean() -> None:
    links = studies._other_links(SETTING, TRACE)
    windows = list(links)[:-4]
    starts = [int(name.removeprefix("trace, window at ")) for name in windows]
    assert starts == [80, 3, 22, 78, 56, 52, 48]
    for name, start in zip(windows, starts, strict=True):
        assert links[name] == window(TRACE, replace(SETTING.trace, start=start))
    for rates in links.values():
        assert len(rates) == 60
        assert np.mean(rates) == pytest.approx(500_000)
    assert set(links["constant"]) == {500_000}
    on = links["10 s on, 5 s at a tenth"]
    assert on[:15] == pytest.approx([on[0]] * 10 + [on[0] / 10] * 5)
    assert on[15:] == pytest.approx(on[:45])
    outages = links["outages: 3 s of nothing every 31 s"]
    assert [at for at, rate in enumerate(outages) if not rate] == [28, 29, 30, 59]
    independent = np.log(links["log-normal, independent seconds"])
    assert independent.std() == pytest.approx(0.642968, abs=1e-6)


def test_each_other_link_says_which_claims_hold_and_how_late_all_is() -> None:
    rows = studies.other_links(SETTING, TRACE)
    assert [row["link"] for row in rows] == list(studies._other_links(SETTING, TRACE))
    for row, rates in zip(rows, studies._other_links(SETTING, TRACE).values(), strict=True):
        assert all(row[claim] is True for claim in MUST_HOLD)
        runs = compare(SETTING, rates, "burst", 0.25, 0)
        assert row["dat"] == {column: getattr(runs["DAT"], column) for column in COLUMNS}
        assert row["priority_only"]["w_alarm"] == runs["Priority-Only"].w_alarm


def test_table_3_has_the_papers_rows_with_the_figures_of_their_pattern() -> None:
    rows = study.table_3(SETTING, RATES, 2)
    told = [(row["block"][0], row["method"]) for row in rows]
    assert told == [
        ("A", "Bandwidth-Only"),
        ("A", "Priority-Only"),
        ("A", "DAT"),
        ("B", "Bandwidth-Only"),
        ("B", "Priority-Only"),
        ("B", "DAT"),
        ("C", "JSON-Only"),
        ("C", "Fixed Box Upload"),
        ("C", "Fixed ROI Upload"),
        ("C", "Fixed JSON+Box"),
        ("C", "DAT"),
    ]
    for row in rows:
        pattern = "medium" if row["block"].startswith("A") else "burst"
        runs = [compare(SETTING, RATES, pattern, 0.25, seed)[row["method"]] for seed in range(2)]
        for column in ("w_alarm", "no_alert", "w_alarm_of_alerted"):
            mean = sum(getattr(run, column) for run in runs) / 2
            assert row[column]["mean"] == pytest.approx(mean)
        assert set(row["paper"]) == set(COLUMNS)


def test_the_orderings_are_counted_on_the_runs_of_table_3() -> None:
    found = study.claims_on_c0(SETTING, RATES, 2)
    assert found["runs"] == 2
    assert list(found["fragile"]) == list(FRAGILE)
    assert {*found["must_hold"].values(), *found["strictly"].values()} == {2}
    assert set(found["fragile"].values()) == {1}


def test_a_quick_study_stops_after_the_papers_own_figures() -> None:
    found = study.study(SETTING, TRACE, 1, quick=True)
    assert list(found) == [
        *("seeds", "parse_json", "fitted_here", "window", "table3", "fig5", "fig6")
    ]
    assert (found["seeds"], found["parse_json"], found["fitted_here"]) == (1, 0.05, False)
    assert found["window"] == "seconds 40 to 100 of 160 of the trace"
    assert found["table3"] == study.table_3(SETTING, RATES, 1)
    assert found["fig5"] == studies.deadline_study(SETTING, RATES, 1)
    assert found["fig6"] == studies.priority_study(SETTING, RATES, 1)


@pytest.mark.parametrize(("seeds", "few"), [(4, 4), (30, 10)])
def test_a_whole_study_gives_each_part_its_runs(
    seeds: int, few: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each part is told what it is asked for; how it does so is its own tests' matter."""
    parts = {
        study: ("table_3", "claims_on_c0"),
        studies: ("deadline_study", "priority_study", "all_settings", "perturbation_study"),
        beyond: ("beyond_table", "forecast_study"),
        cameras: ("camera_study",),
        gaps: ("gap_study",),
        exactness: ("exact_properties",),
    }
    for module, names in [*parts.items(), (studies, ("other_links",))]:
        for name in names:
            monkeypatch.setattr(module, name, lambda *given, name=name: (name, *given))
    on_rates, anywhere = (SETTING, RATES), (SETTING, TRACE)
    found = study.study(SETTING, TRACE, seeds, quick=False)
    assert found == {
        "seeds": seeds,
        "parse_json": 0.05,
        "fitted_here": False,
        "window": "seconds 40 to 100 of 160 of the trace",
        "table3": ("table_3", *on_rates, seeds),
        "fig5": ("deadline_study", *on_rates, seeds),
        "fig6": ("priority_study", *on_rates, seeds),
        "claims_c0": ("claims_on_c0", *on_rates, seeds),
        "settings": ("all_settings", *on_rates, few),
        "perturbation": ("perturbation_study", *anywhere, 100),
        "other_links": ("other_links", *anywhere),
        "beyond": ("beyond_table", *on_rates, seeds),
        "forecast": ("forecast_study", *on_rates, few),
        "cameras": ("camera_study", *on_rates, 3),
        "gaps": ("gap_study", 60),
        "exact": ("exact_properties", *on_rates, seeds),
    }
    assert capsys.readouterr().out.splitlines() == [
        f"[transmission] Table 3, {seeds} seeds",
        "[transmission] Figures 5 and 6",
    ]
    alike = {**found, "perturbation": ("perturbation_study", *anywhere, 7)}
    kept = ("parse_json", "table3", "fig5", "fig6", "claims_c0", "perturbation", "other_links")
    assert study.evidence(SETTING, TRACE, seeds, 7) == {
        name: alike[name] for name in (*kept, "beyond", "forecast")
    }
    fitted = replace(SETTING.trace, fitted_to=fingerprint(TRACE, SETTING.trace))
    assert study.study(replace(SETTING, trace=fitted), TRACE, 1, quick=True)["fitted_here"] is True
