"""The plots of the transmission study can be read on a phone, and their values do not collide."""

from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from eval.paper import printed
from eval.uplink import plots
from eval.uplink.beyond import SPREAD_ARRIVAL
from tests.eval.statistics.drawn import described
from tests.eval.uplink.small_study import small_study

PHONE = 390
"""Pixels that a figure is wide on a phone."""
LEGIBLE = 10.5
"""Pixels of text."""


def spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.02 * mean}


def near_paper(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Table 3 with figures a little above the paper's, where a label might meet them."""
    ours = {}
    for name in ("w_alarm", "vtr_05", "vtr_1", "avg_visual_delay"):
        ours[name] = None if row[name] is None else spread(1.02 * row[name])
    return {"block": row["block"], "method": row["method"], "paper": row, **ours}


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    delays = {"w_alarm": spread(0.05), "avg_visual_delay": spread(0.1)}
    shares = {"vtr_05": spread(98.0), "vtr_1": spread(99.0), "on_time": spread(97.0)}
    study = {
        "table3": [near_paper(row) for row in printed.table(3)],
        "fig5": [{"visual_deadline": d, **delays, **shares} for d in (0.75, 1.5, 3.0)],
        "fig6": [
            {"method": method, "source": source, **delays, **shares}
            for method, source in (
                ("DAT", "ground truth"),
                ("DAT", "predicted"),
                ("Priority-Only", "ground truth"),
                ("Priority-Only", "predicted"),
            )
        ],
        "beyond": [
            {"planner": name, "scale": scale, "arrival": SPREAD_ARRIVAL, **delays, **shares}
            for scale, name in (
                *((0.25, name) for name in ("dat", "dat_plus", "dat_live", "clairvoyant bound")),
                *((0.1, name) for name in ("dat", "dat_plus", "dat_live")),
            )
        ],
        "gaps": [
            {"visuals": 8, "budget": share, "dat": spread(9.0), "dat_plus": spread(1.0)}
            for share in (0.25, 0.75)
        ],
        "cameras": [
            {"planner": name, "cameras": 2, "crowded": crowded, "worst": spread(90.0)}
            for crowded, name in (
                *((False, name) for name in ("dat", "dat_plus", "dat_live", "dat_live, fair")),
                *((True, name) for name in ("dat", "dat_plus", "dat_live", "dat_live, fair")),
            )
        ],
    }
    return plots.figures(study)


def texts(figure: Figure) -> list[Text]:
    """What is shown; Matplotlib also keeps labels of ticks beyond an axis' ends."""
    beyond = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    beyond |= {tick.label1, tick.label2}
    found = figure.findobj(lambda a: isinstance(a, Text) and a.get_visible() and a.get_text())
    return [text for text in found if isinstance(text, Text) and text not in beyond]


def too_small(figure: Figure) -> list[str]:
    pixels = PHONE / (72 * figure.get_figwidth())
    return [t.get_text() for t in texts(figure) if t.get_fontsize() * pixels < LEGIBLE]


def test_every_text_is_legible_at_the_width_of_a_phone(figures: dict[str, Figure]) -> None:
    assert set(figures) == {"table3", "fig5", "fig6", "beyond", "gaps", "cameras"}
    for name, figure in figures.items():
        assert not too_small(figure), name


def test_small_text_in_a_wide_figure_would_be_found() -> None:
    figure = Figure(figsize=(14, 3))
    figure.subplots().set_title("read on a screen only", fontsize=10)
    assert "read on a screen only" in too_small(figure)


def test_no_value_meets_a_bar_a_mark_or_another_text(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        FigureCanvasAgg(figure).draw()
        whole = figure.bbox
        boxes = [(t.get_text(), t.get_window_extent()) for t in texts(figure)]
        for text, box in boxes:
            assert whole.x0 <= box.x0, (name, text)
            assert box.x1 <= whole.x1, (name, text)
        for (text, box), (other, beside) in combinations(boxes, 2):
            assert not box.overlaps(beside), (name, text, other)
    for axis in figures["table3"].axes:
        marks = axis.get_window_extent()
        for text in axis.texts:
            assert text.get_window_extent().x0 > marks.x1, text.get_text()


def test_the_schemes_have_the_papers_order_in_every_panel(figures: dict[str, Figure]) -> None:
    order = [
        "Bandwidth-Only",
        "Priority-Only",
        "JSON-Only",
        "Fixed Box Upload",
        "Fixed ROI Upload",
        "Fixed JSON+Box",
        "DAT",
    ]
    for axis in figures["table3"].axes:
        assert [label.get_text() for label in axis.get_yticklabels()] == order
        assert len(axis.texts) == len(order)
    assert [text.get_text() for text in figures["table3"].axes[2].texts][2] == "none"


DRAWN = r"""
== table3
5 x 7.5: "Bursts of 4-7 accidents over a quarter of a 5G uplink (C0,\nfitted to the paper). Diamonds: the paper's figures"

panel 'Seconds until the alert is there\n(weighted by priority; less is better)': '', ''
linear (0, 0.5349), linear (3.5, -0.5)
y ticks ['Bandwidth-Only', 'Priority-Only', 'JSON-Only', 'DAT']
line '_child12' #d1495b None D 1.5 default: (0.0531, 0.0531, 0.0531, 0.0531) / (0, 1, 2, 3)
deviations ['#000000']: (0, 0, 0.5, 0)
deviations ['#000000']: (-0.075, 1, 0.425, 1)
deviations ['#000000']: (-0.1975, 2, 0.3025, 2)
deviations ['#000000']: (-0.1975, 3, 0.3025, 3)
bar #b0b7bf: (0, 0.25, -0.3, 0.6)
bar #b0b7bf: (0, 0.175, 0.7, 0.6)
bar #b0b7bf: (0, 0.0525, 1.7, 0.6)
bar #1b6ca8: (0, 0.0525, 2.7, 0.6)
text '0.250' at (1.02, 0)
text '0.175' at (1.02, 1)
text '0.052' at (1.02, 2)
text '0.052' at (1.02, 3)

panel 'Visuals that arrive within 0.5 s\n(% of events; more is better)': '', ''
linear (0, 103.2), linear (3.5, -0.5)
y ticks ['Bandwidth-Only', 'Priority-Only', 'JSON-Only', 'DAT']
line '_child12' #d1495b None D 1.5 default: (98.33, 98.33, 98.33, 98.33) / (0, 1, 2, 3)
deviations ['#000000']: (79.75, 0, 80.25, 0)
deviations ['#000000']: (89.75, 1, 90.25, 1)
deviations ['#000000']: (97.75, 2, 98.25, 2)
deviations ['#000000']: (97.75, 3, 98.25, 3)
bar #b0b7bf: (0, 80, -0.3, 0.6)
bar #b0b7bf: (0, 90, 0.7, 0.6)
bar #b0b7bf: (0, 98, 1.7, 0.6)
bar #1b6ca8: (0, 98, 2.7, 0.6)
text '80.0' at (1.02, 0)
text '90.0' at (1.02, 1)
text '98.0' at (1.02, 2)
text '98.0' at (1.02, 3)

panel 'Mean seconds until a visual arrives\n(delivered ones; less is better)': '', ''
linear (0, 0.794), linear (3.5, -0.5)
y ticks ['Bandwidth-Only', 'Priority-Only', 'JSON-Only', 'DAT']
line '_child12' #d1495b None D 1.5 default: (0.1081, 0.1081, 0.1081, 0.1081) / (0, 1, 2, 3)
deviations ['#000000']: (0.25, 0, 0.75, 0)
deviations ['#000000']: (0, 1, 0.5, 1)
deviations ['#000000']: (-0.13, 2, 0.37, 2)
deviations ['#000000']: (-0.13, 3, 0.37, 3)
bar #b0b7bf: (0, 0.5, -0.3, 0.6)
bar #b0b7bf: (0, 0.25, 0.7, 0.6)
bar #b0b7bf: (0, 0.12, 1.7, 0.6)
bar #1b6ca8: (0, 0.12, 2.7, 0.6)
text '0.500' at (1.02, 0)
text '0.250' at (1.02, 1)
text '0.120' at (1.02, 2)
text '0.120' at (1.02, 3)

== fig5
5 x 6.4: ''

panel 'Beyond 1.5 s a longer deadline brings nothing': 'D_vis: how old a visual may get (s since capture)', 'visuals that arrive (% of events)'
linear (0.9, 3.1), linear (89.31, 98.94)
line '_nolegend_' #1b6ca8 - o 1.5 default: (1, 1.5, 2, 3) / (92, 98, 98.25, 97)
line '_nolegend_' #d1495b - o 1.5 default: (1, 1.5, 2, 3) / (90, 90, 90, 90)
line '_child4' #b0b7bf -- None 1 default: (1.5, 1.5) / (0, 1)
deviations ['#1b6ca8']: (1, 91.75, 1, 92.25) (1.5, 97.75, 1.5, 98.25) (2, 98, 2, 98.5) (3, 96.75, 3, 97.25)
deviations ['#d1495b']: (1, 89.75, 1, 90.25) (1.5, 89.75, 1.5, 90.25) (2, 89.75, 2, 90.25) (3, 89.75, 3, 90.25)
legend ['within 1 s', 'within 0.5 s']

panel 'The alert does not depend on the deadline': 'D_vis: how old a visual may get (s since capture)', 'mean delay (s)'
linear (0.9, 3.1), linear (0, 0.1025)
line 'visual' #1b6ca8 - o 1.5 default: (1, 1.5, 2, 3) / (0.1, 0.1, 0.1, 0.1)
line 'alert' #d1495b - o 1.5 default: (1, 1.5, 2, 3) / (0.05, 0.05, 0.05, 0.06)
line '_child2' #b0b7bf -- None 1 default: (1.5, 1.5) / (0, 1)
legend ['visual', 'alert']

== fig6
5 x 6.6: "DAT's lead does not come from lucky priorities (burst,\n0.25x)"

panel 'Seconds until the alert is there': '', ''
linear (0, 0.4561), linear (3.5, -0.5)
y ticks ['DAT\nground truth', 'DAT\npredicted', 'Priority-Only\nground truth', 'Priority-Only\npredicted']
deviations ['#000000']: (-0.1975, 0, 0.3025, 0)
deviations ['#000000']: (-0.1975, 1, 0.3025, 1)
deviations ['#000000']: (-0.075, 2, 0.425, 2)
deviations ['#000000']: (-0.075, 3, 0.425, 3)
bar #1b6ca8: (0, 0.0525, -0.3, 0.6)
bar #1b6ca8: (0, 0.0525, 0.7, 0.6)
bar #b0b7bf: (0, 0.175, 1.7, 0.6)
bar #b0b7bf: (0, 0.175, 2.7, 0.6)
text '0.052' at (1.02, 0)
text '0.052' at (1.02, 1)
text '0.175' at (1.02, 2)
text '0.175' at (1.02, 3)

panel 'Visuals within 0.5 s (%)': '', ''
linear (0, 103.2), linear (3.5, -0.5)
y ticks ['DAT\nground truth', 'DAT\npredicted', 'Priority-Only\nground truth', 'Priority-Only\npredicted']
deviations ['#000000']: (97.75, 0, 98.25, 0)
deviations ['#000000']: (97.75, 1, 98.25, 1)
deviations ['#000000']: (89.75, 2, 90.25, 2)
deviations ['#000000']: (89.75, 3, 90.25, 3)
bar #1b6ca8: (0, 98, -0.3, 0.6)
bar #1b6ca8: (0, 98, 0.7, 0.6)
bar #b0b7bf: (0, 90, 1.7, 0.6)
bar #b0b7bf: (0, 90, 2.7, 0.6)
text '98.0' at (1.02, 0)
text '98.0' at (1.02, 1)
text '90.0' at (1.02, 2)
text '90.0' at (1.02, 3)

panel 'Mean seconds until a visual': '', ''
linear (0, 0.5315), linear (3.5, -0.5)
y ticks ['DAT\nground truth', 'DAT\npredicted', 'Priority-Only\nground truth', 'Priority-Only\npredicted']
deviations ['#000000']: (-0.13, 0, 0.37, 0)
deviations ['#000000']: (-0.13, 1, 0.37, 1)
deviations ['#000000']: (0, 2, 0.5, 2)
deviations ['#000000']: (0, 3, 0.5, 3)
bar #1b6ca8: (0, 0.12, -0.3, 0.6)
bar #1b6ca8: (0, 0.12, 0.7, 0.6)
bar #b0b7bf: (0, 0.25, 1.7, 0.6)
bar #b0b7bf: (0, 0.25, 2.7, 0.6)
text '0.120' at (1.02, 0)
text '0.120' at (1.02, 1)
text '0.250' at (1.02, 2)
text '0.250' at (1.02, 3)

== beyond
5 x 4.9: 'Beyond the paper: bursts captured within a second, delays\nfrom capture'

panel 'Seconds from capture to alert, 0.25x\n(waiting for the slot is most of it)': '', ''
linear (0, 0.7969), linear (2.5, -0.5)
y ticks ['dat', 'dat_plus', 'dat_live']
deviations ['#000000']: (0.25, 0, 0.75, 0)
deviations ['#000000']: (0.25, 1, 0.75, 1)
deviations ['#000000']: (-0.1875, 2, 0.3125, 2)
bar #b0b7bf: (0, 0.5, -0.3, 0.6)
bar #b0b7bf: (0, 0.5, 0.7, 0.6)
bar #1b6ca8: (0, 0.0625, 1.7, 0.6)
text '0.500' at (1.02, 0)
text '0.500' at (1.02, 1)
text '0.062' at (1.02, 2)

panel 'Visuals within 0.5 s of capture, 0.25x\n(%; line: no scheduler can do better)': '', ''
linear (0, 101), linear (2.5, -0.5)
y ticks ['dat', 'dat_plus', 'dat_live']
line '_child9' #d1495b - None 1.5 default: (99, 99) / (0, 1)
deviations ['#000000']: (89.75, 0, 90.25, 0)
deviations ['#000000']: (89.75, 1, 90.25, 1)
deviations ['#000000']: (89.75, 2, 90.25, 2)
bar #b0b7bf: (0, 90, -0.3, 0.6)
bar #b0b7bf: (0, 90, 0.7, 0.6)
bar #1b6ca8: (0, 90, 1.7, 0.6)
text '90.0' at (1.02, 0)
text '90.0' at (1.02, 1)
text '90.0' at (1.02, 2)

panel 'Priority shown within 1 s of capture, 0.1x (%)': '', ''
linear (0, 84.26), linear (2.5, -0.5)
y ticks ['dat', 'dat_plus', 'dat_live']
deviations ['#000000']: (59.75, 0, 60.25, 0)
deviations ['#000000']: (65.75, 1, 66.25, 1)
deviations ['#000000']: (79.75, 2, 80.25, 2)
bar #b0b7bf: (0, 60, -0.3, 0.6)
bar #b0b7bf: (0, 66, 0.7, 0.6)
bar #1b6ca8: (0, 80, 1.7, 0.6)
text '60.0' at (1.02, 0)
text '66.0' at (1.02, 1)
text '80.0' at (1.02, 2)

== gaps
5 x 3.6: ''

panel "What one slot's plan loses to the best possible one": 'visuals that wait', 'priority lost against the optimum (%)'
linear (-0.05, 1.05), linear (-0.2, 4.2)
line 'dat (Algorithm 1), room for 25 %' #d1495b - o 1.5 default: (40, 100) / (4, 4)
line 'dat (Algorithm 1), room for 75 %' #d1495b -- s 1.5 default: () / ()
line 'dat_plus, room for 25 %' #1b6ca8 - o 1.5 default: (40, 100) / (0, 0.5)
line 'dat_plus, room for 75 %' #1b6ca8 -- s 1.5 default: () / ()
legend ['dat (Algorithm 1), room for 25 %', 'dat (Algorithm 1), room for 75 %', 'dat_plus, room for 25 %', 'dat_plus, room for 75 %']

== cameras
5 x 6.4: 'Several cameras on a tenth of a 5G uplink'

panel 'All cameras alike: the worst one': 'cameras on the link', 'priority shown in time (%)'
linear (-0.055, 0.055), linear (75.6, 84.4)
line 'dat' #d1495b - o 1.5 default: () / ()
line 'dat_plus' #e39c37 - o 1.5 default: () / ()
line 'dat_live' #1b6ca8 - o 1.5 default: (2) / (80)
line 'dat_live, fair' #1b6ca8 -- s 1.5 default: () / ()
legend ['dat', 'dat_plus', 'dat_live', 'dat_live, fair']

panel 'One has five times the bursts: the worst of the others': 'cameras on the link', 'priority shown in time (%)'
linear (-0.055, 0.055), linear (75.6, 84.4)
line 'dat' #d1495b - o 1.5 default: () / ()
line 'dat_plus' #e39c37 - o 1.5 default: () / ()
line 'dat_live' #1b6ca8 - o 1.5 default: (2) / (80)
line 'dat_live, fair' #1b6ca8 -- s 1.5 default: () / ()"""  # noqa: E501


def test_every_figure_shows_its_study() -> None:
    shown = plots.figures(small_study())
    drawn = [f"\n== {name}\n{described(figure)}" for name, figure in shown.items()]
    assert "\n".join(drawn) == DRAWN


def test_a_quick_study_has_three_figures() -> None:
    study = {name: small_study()[name] for name in ("table3", "fig5", "fig6")}
    assert list(plots.figures(study)) == ["table3", "fig5", "fig6"]
