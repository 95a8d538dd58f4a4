import json
from dataclasses import replace
from pathlib import Path

import pytest
import scipy.optimize  # noqa: F401  the study's workers are forked and share it

from eval.uplink import acceptance, beyond, cameras, gaps, plots, report, studies
from eval.uplink.exactness import exact_properties
from eval.uplink.setting import load_setting
from eval.uplink.study import claims_on_c0, study
from eval.uplink.trace import window

C0 = Path("configs/transmission/c0.yaml")


@pytest.mark.slow
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
        "cameras": cameras.camera_study(setting, rates, 1),
        "gaps": gaps.gap_study(1),
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
