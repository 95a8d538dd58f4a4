import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from dat_runtime.errors import ConfigError
from eval.transmission import claims_on_c0, main, study
from eval.uplink import acceptance, beyond, plots, report, studies
from eval.uplink.arrivals import draw, level_of_priority, load_setting, read_events
from eval.uplink.exactness import exact_properties
from eval.uplink.link import window
from eval.uplink.timeliness import Timeliness

C0 = Path("configs/transmission/c0.yaml")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "bandwidth.csv"
    rows = [f"{second},{200 + 37 * second % 91}" for second in range(900)]
    path.write_text("\n".join(["second,uplink_bytes_per_s", *rows]) + "\n")
    return path


def small(tmp_path, **changes):
    """C0 with fewer events, as a file."""
    text = C0.read_text()
    for old, new in changes.items():
        text = text.replace(f"{old}: ", f"{old}: {new}  # ", 1)
    path = tmp_path / "setting.yaml"
    path.write_text(text)
    return path


def test_the_quick_study_writes_table_3_with_the_papers_figures(tmp_path, trace, capsys):
    out = tmp_path / "out"
    config = small(tmp_path, events=60)
    arguments = ["--trace", str(trace), "--config", str(config), "--out", str(out), "--quick"]
    assert main([*arguments, "--seeds", "2"]) == 0
    rows = json.loads((out / "table3.json").read_text())
    assert [row["method"] for row in rows if row["block"].startswith("A")] == [
        "Bandwidth-Only",
        "Priority-Only",
        "DAT",
    ]
    assert len(rows) == 11
    assert rows[2]["paper"]["w_alarm"] == 0.0508
    assert set(rows[2]["w_alarm"]) == {"mean", "std"}
    assert "calibration, not evidence" in capsys.readouterr().out
    assert {"table3.png", "fig5.png", "fig6.png", "study.md"} <= {p.name for p in out.iterdir()}


def test_a_second_run_of_the_same_study_does_nothing(tmp_path, trace, capsys):
    config = small(tmp_path, events=20)
    arguments = ["--trace", str(trace), "--config", str(config), "--out", str(tmp_path / "out")]
    arguments += ["--quick", "--seeds", "1"]
    assert main(arguments) == 0
    first = (tmp_path / "out" / "study.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "out" / "study.json").stat().st_mtime_ns == first


def test_an_event_log_is_replayed_over_the_link_as_it_is(tmp_path, trace, capsys):
    log = tmp_path / "events.jsonl"
    lines = [
        {"id": "a", "priority": 0.9, "json_bytes": 100, "box_bytes": 50, "captured_at": 1e6 + 0.5},
        {"id": "b", "priority": 0.1, "json_bytes": 100, "captured_at": 1e6},
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    arguments = ["--trace", str(trace), "--config", str(C0), "--out", str(out)]
    assert main([*arguments, "--events", str(log)]) == 0
    rows = {row["planner"]: row for row in json.loads((out / "my_link.json").read_text())}
    assert rows["dat_live"]["no_alert"] == 0
    assert rows["dat_live"]["w_alarm"] < rows["dat"]["w_alarm"]
    assert "What this link would have done" in capsys.readouterr().out


def test_the_events_of_a_log_are_shifted_to_the_start_of_the_trace(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_text('{"id": "a", "priority": 0.9, "json_bytes": 100, "captured_at": 77.25}')
    assert read_events(log)[0].captured_at == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("events: 600", "event: 600"), "unknown key event"),
        (("interval: 1.0", ""), "missing key interval"),
        (("gamma: 0.5", "gama: 0.5"), "priority: unknown key gama"),
        (("events: 600", "events: [600"), "cannot be read as YAML"),
    ],
)
def test_a_setting_with_a_wrong_key_is_refused_by_its_name(tmp_path, change, message):
    path = tmp_path / "setting.yaml"
    path.write_text(C0.read_text().replace(*change, 1))
    with pytest.raises(ConfigError, match=message):
        load_setting(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--accept", "--quick"], "--accept needs the whole study"),
    ],
)
def test_arguments_that_make_no_sense_end_with_a_message(
    tmp_path, trace, capsys, arguments, message
):
    needed = ["--trace", str(trace), "--config", str(C0), "--out", str(tmp_path / "out")]
    assert main([*needed, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_needs_no_heavy_library():
    code = "import sys, eval.transmission; print({'matplotlib', 'scipy'} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_a_whole_study_of_a_few_events_has_every_table_plot_and_figure(tmp_path):
    setting = replace(load_setting(C0), events=30)
    trace = [200.0 + 37 * second % 91 for second in range(800)]
    rates = window(trace, setting.trace)
    found = study(setting, trace, seeds=2, quick=True) | {
        "claims_c0": claims_on_c0(setting, rates, 1),
        "settings": studies.all_settings(setting, rates, 1),
        "perturbation": studies.perturbation_study(setting, trace, 2),
        "other_links": studies.other_links(setting, trace),
        "beyond": beyond.beyond_table(setting, rates, 1),
        "forecast": beyond.forecast_study(setting, rates, 1),
        "cameras": beyond.camera_study(setting, rates, 1),
        "gaps": beyond.gap_study(1),
        "exact": exact_properties(setting, rates, 1),
    }
    text = report.report(found)
    assert text.count("\n## ") == 10
    plots.draw_all(found, tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 6
    figures = acceptance.figures(json.loads(json.dumps(found)))
    assert not found["fitted_here"]
    assert {f.kind for f in figures if f.demanded} == {"exactness"}
    assert not any(f.failed for f in figures)


class TestDraws:
    setting = load_setting(C0)

    def test_the_same_seed_gives_the_same_events_and_another_seed_others(self):
        assert draw(self.setting, "burst", 1) == draw(self.setting, "burst", 1)
        assert draw(self.setting, "burst", 1) != draw(self.setting, "burst", 2)

    def test_sizes_and_priorities_are_c0s(self):
        events = [e for seed in range(20) for e in draw(self.setting, "burst", seed)]
        mean = {
            "json": sum(e.json_bytes for e in events) / len(events),
            "box": sum(e.box_bytes for e in events) / len(events),
            "rois": sum(e.rois_bytes or 0 for e in events)
            / sum(e.rois_bytes is not None for e in events),
        }
        assert mean["json"] == pytest.approx(450, rel=0.02)
        assert mean["box"] == pytest.approx(42_000, rel=0.02)
        assert mean["rois"] == pytest.approx(45_000, rel=0.03)
        without = sum(e.roi_bytes is None for e in events) / len(events)
        assert without == pytest.approx(0.035, abs=0.005)
        severe = sum(e.priority >= 0.75 for e in events) / len(events)
        assert severe == pytest.approx(0.40, abs=0.02)

    def test_events_enter_at_interval_starts_up_to_a_second_after_capture(self):
        for pattern in self.setting.arrivals:
            for e in draw(studies.perturbed(self.setting, 60_000, 3), pattern, 0):
                assert e.entered_at == int(e.entered_at)
                assert 0 <= e.entered_at - e.captured_at <= 1

    def test_a_priority_gives_back_its_level_and_score(self):
        assert level_of_priority(0.5 + 0.5 * 0.6, 0.5, 0.5) == pytest.approx((1, 0.6))
        assert level_of_priority(0.5 * 0.3, 0.5, 0.5) == pytest.approx((0, 0.3))

    def test_predicted_priorities_differ_but_stay_in_range(self):
        events = draw(self.setting, "burst", 0)
        seen = studies.predicted(self.setting, events, 0)
        assert all(0 <= e.priority <= 1 for e in seen)
        assert seen != events


def timeliness(**changes):
    good = Timeliness(0.05, 99.0, 100.0, 0.1, 600, 0, 100.0)
    return replace(good, **changes)


@pytest.mark.parametrize(
    "worse",
    [{"w_alarm": 0.06}, {"vtr_05": 98.0}, {"vtr_1": 99.0}, {"avg_visual_delay": 0.2}],
)
def test_a_scheme_that_is_worse_in_one_column_is_found(worse):
    assert studies.no_worse(timeliness(), timeliness())
    assert not studies.no_worse(timeliness(**worse), timeliness())


def test_one_event_of_600_is_a_tie_and_not_strictly_one():
    ours = timeliness(vtr_1=100 - 100 / 600)
    assert studies.no_worse(ours, timeliness())
    assert not studies.no_worse(ours, timeliness(), lost_events=0)


def test_a_figure_outside_its_range_fails_and_says_so():
    bad = acceptance.within("evidence", "VTR@1", 98.0, 99.0, float("inf"))
    assert not bad.passed
    text = acceptance.as_text([bad, acceptance.within("evidence", "delay", 0.1, 0, 0.125)])
    assert text.splitlines()[0].startswith("FAIL")
    assert text.endswith("1 of 2 pass")


def test_a_figure_set_for_another_link_is_shown_and_does_not_fail():
    shown = replace(acceptance.within("evidence", "VTR@1", 98.0, 99.0, 100.0), demanded=False)
    assert not shown.failed
    assert acceptance.as_text([shown]).startswith("no ")


def test_the_exact_properties_hold_in_the_plans_of_c0():
    setting = replace(load_setting(C0), events=60)
    rates = [1.9e6 * (0.5 + second % 3 / 2) for second in range(100)]
    assert set(exact_properties(setting, rates, 2).values()) == {0}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("interval: 1.0", "interval: 0", "interval is 0, expected a number above 0"),
        ("interval: 1.0", "interval: fast", "interval is 'fast'"),
        ("events: 600", "events: 0", "events is 0"),
        ("events: 600", "events: 6.5", "events is 6.5"),
        ("events: 600", "events: true", "events is True"),
        ("seconds: 700", "seconds: 0", "trace: seconds is 0"),
        ("mean: 1.9e+6", "mean: .nan", "trace: mean is nan"),
        ("together: [4, 7]", "together: [7, 4]", "arrivals.burst: together is"),
        ("json: [450, 0.15]", "json: [450]", "sizes: json is"),
        ("severe: 0.40", "severe: 40", "priority: severe is 40, expected a number from 0 to 1"),
        ("lowest: 0.05", "lowest: 0.9", "priority: lowest is 0.9, above gamma"),
        ("scales: [1.0, 0.5, 0.25]", "scales: [0]", "scales is"),
        ("{json: 0.05, ", "{", "parse: missing key json"),
        ("{json: 0.05, ", "{json: slow, ", "parse: json is 'slow'"),
        ("low: {every: 4.0, together: [1, 1]}", "low: 4", "arrivals.low must be a mapping"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_file_and_key(tmp_path, old, new, words):
    path = tmp_path / "setting.yaml"
    assert old in C0.read_text()
    path.write_text(C0.read_text().replace(old, new))
    with pytest.raises(ConfigError) as refusal:
        load_setting(path)
    assert f"{path}: {words}" in str(refusal.value)
