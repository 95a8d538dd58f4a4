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
