"""What the offloading study's figures show."""

from typing import Any

from eval.offloading.plots import figures
from tests.eval.offloading import measured
from tests.eval.statistics.drawn import described

TABLES = [
    {
        "model": "M",
        "mbps": [3, 6, 50],
        "rows": [
            {
                "method": "ApproxBit-a",
                "predicted_ms": [300.0, 290.0, 280.0],
                "latency_ms": [301.0, 290.0, 280.0],
                "from_shape": True,
            },
            {
                "method": "JPEG",
                "predicted_ms": [500.0, 400.0, 300.0],
                "latency_ms": [500.0, 450.0, 300.0],
                "from_shape": False,
            },
        ],
    }
]
COURSE = {
    "bytes_per_s": [125000, 375000, 6250000, 0],
    "latency": [0.3, 0.4, 1.5, 1.0],
    "accuracy": [0.7, 0.69, 0.71, 0.7],
    "windows": [
        {"start": 0, "end": 2, "max_latency": 0.35, "min_accuracy": None},
        {"start": 2, "end": 4, "max_latency": None, "min_accuracy": 0.695},
    ],
}


def best(model: str, mbps: int) -> dict[str, Any]:
    points = [
        ("ApproxBit-a", "feature", 300.0 + mbps, 70.0, True),
        ("JPEG", "video", 500.0, 69.0, False),
        ("Edge-only", "edge", 450.0, 71.0, True),
    ]
    names = ("method", "level", "latency_ms", "accuracy", "best")
    return {
        "model": model,
        "mbps": mbps,
        "points": [dict(zip(names, point, strict=True)) for point in points],
    }


def results() -> dict[str, Any]:
    rows = [measured.row(*known) for known in measured.ROWS]
    rows += [measured.row("gate alone", "gate", 0, 0.75), measured.row("png", "png", 20_000, 0.97)]
    rows += [measured.row("jpeg q9, unanswered", "jpeg", 90, None)]
    return {
        "paper": {
            "tables": TABLES,
            "misprints": [{"model": "M", "method": "JPEG", "mbps": 6}],
            "best": [best("M", 3), best("M", 6), best("N", 3)],
        },
        "links": [{"name": "A/b 1.csv", "course": COURSE}],
        "curve": {"rows": rows},
    }


DRAWN = r"""
== shapes
5 x 3.6: ''

panel 'Printed latencies follow from the bytes; two cells do not': 'printed latency (ms)', 'from d and the 50 Mbps column (ms)'
log (200, 2e+05), log (200, 2e+05)
x ticks ['$\\mathdefault{10^{2}}$', '$\\mathdefault{10^{3}}$', '$\\mathdefault{10^{4}}$', '$\\mathdefault{10^{5}}$', '$\\mathdefault{10^{6}}$']
y ticks ['$\\mathdefault{10^{2}}$', '$\\mathdefault{10^{3}}$', '$\\mathdefault{10^{4}}$', '$\\mathdefault{10^{5}}$', '$\\mathdefault{10^{6}}$']
line '_child3' #8a939c : None 0.8 default: (200, 2e+05) / (200, 2e+05)
points 'd from two columns (checks the third)' ['#8a939c']: (500, 500)
points "d from the tensor's shape" ['#1b6ca8']: (301, 300) (290, 290)
points 'misprints' ['#d1495b']: (450, 400)
legend ['d from two columns (checks the third)', "d from the tensor's shape", 'misprints']

== best
5 x 5.2: 'M: what lies on the line is beaten by nothing (up and left\nis better)'

panel '3 Mbps': '', 'accuracy (%)'
log (295.5, 512.7), linear (68.9, 71.1)
line '_child3' #1b6ca8 - None 1 steps-post: (303, 450) / (70, 71)
points 'others' ['#8a939c']: (500, 69)
points 'codes' ['#1b6ca8']: (303, 70)
points 'edge alone' ['#e39c37']: (450, 71)
legend ['others', 'codes', 'edge alone']

panel '6 Mbps': 'latency (ms)', 'accuracy (%)'
log (298.6, 512.4), linear (68.9, 71.1)
line '_child3' #1b6ca8 - None 1 steps-post: (306, 450) / (70, 71)
points 'others' ['#8a939c']: (500, 69)
points 'codes' ['#1b6ca8']: (306, 70)
points 'edge alone' ['#e39c37']: (450, 71)

== link-a-b-1-csv
5 x 6.2: 'Red: the targets. The controller keeps them while it can,\nwith as much accuracy, then as little latency, as the link\nallows'

panel '': '', 'link (Mbps)'
linear (0, 4), symlog (0, 66.75)
line '_child0' #8a939c - None 0.8 default: (0, 1, 2, 3) / (1, 3, 50, 0)

panel 'Latency of each clip (1 above 1 s are not shown)': '', 'latency (ms)'
linear (0, 4), linear (250, 1000)
line '_child0' #1b6ca8 None . 1.5 default: (0, 1, 2, 3) / (300, 400, 1500, 1000)
line '_child1' #d1495b - None 1.5 default: (0, 2) / (350, 350)

panel '': 'seconds', 'accuracy (%)'
linear (0, 4), linear (68.9, 71.1)
line '_child0' #1b6ca8 None . 1.5 default: (0, 1, 2, 3) / (70, 69, 71, 70)
line '_child1' #d1495b - None 1.5 default: (2, 4) / (69.5, 69.5)

== curve
5 x 7.4: 'Accuracy by the bytes that leave the node (up and left is\nbetter)'

panel '': '', 'Count EM'
log (67.09, 2.623e+04), linear (0.054, 1.066)
line '_nolegend_' #1b6ca8 - o 1.2 default: (88, 280) / (0.4, 0.7)
line '_nolegend_' #d1495b - s 0 default: (250, 3000, 9000) / (0.5, 0.8, 0.95)
line '_nolegend_' #e39c37 - ^ 0 default: (1000) / (0.6)
line '_nolegend_' #8a939c - x 0 default: (1.229e+04) / (0.9)
line '_nolegend_' #000000 - * 0 default: (2e+04) / (0.97)
line 'the gate alone' #8a939c - None 1 default: (0, 1) / (0.75, 0.75)
line 'boxes alone' #8a939c : None 1 default: (0, 1) / (0.1, 0.1)
deviations ['#1b6ca8']: (88, 0.35, 88, 0.45) (280, 0.65, 280, 0.75)
deviations ['#d1495b']: (250, 0.45, 250, 0.55) (3000, 0.75, 3000, 0.85) (9000, 0.9, 9000, 1)
deviations ['#e39c37']: (1000, 0.55, 1000, 0.65)
deviations ['#8a939c']: (1.229e+04, 0.85, 1.229e+04, 0.95)
deviations ['#000000']: (2e+04, 0.92, 2e+04, 1.02)

panel '': 'bytes', 'SevF1'
log (67.09, 2.623e+04), linear (0.054, 1.066)
line '_nolegend_' #1b6ca8 - o 1.2 default: (88, 280) / (0.4, 0.7)
line '_nolegend_' #d1495b - s 0 default: (250, 3000, 9000) / (0.5, 0.8, 0.95)
line '_nolegend_' #e39c37 - ^ 0 default: (1000) / (0.6)
line '_nolegend_' #8a939c - x 0 default: (1.229e+04) / (0.9)
line '_nolegend_' #000000 - * 0 default: (2e+04) / (0.97)
line 'the gate alone' #8a939c - None 1 default: (0, 1) / (0.75, 0.75)
line 'boxes alone' #8a939c : None 1 default: (0, 1) / (0.1, 0.1)
deviations ['#1b6ca8']: (88, 0.35, 88, 0.45) (280, 0.65, 280, 0.75)
deviations ['#d1495b']: (250, 0.45, 250, 0.55) (3000, 0.75, 3000, 0.85) (9000, 0.9, 9000, 1)
deviations ['#e39c37']: (1000, 0.55, 1000, 0.65)
deviations ['#8a939c']: (1.229e+04, 0.85, 1.229e+04, 0.95)
deviations ['#000000']: (2e+04, 0.92, 2e+04, 1.02)
legend ['the gate alone', 'boxes alone', 'learned codes', 'WebP', 'JPEG', 'features as floats', 'PNG']"""  # noqa: E501


def test_every_figure_shows_its_results() -> None:
    shown = figures(results())
    drawn = [f"\n== {name}\n{described(figure)}" for name, figure in shown.items()]
    assert "\n".join(drawn) == DRAWN


def test_without_measured_codes_there_is_no_curve_and_a_calm_link_needs_no_note() -> None:
    shown = results()
    del shown["curve"]
    shown["links"][0]["course"] = COURSE | {"latency": [0.3, 0.4, 1.0, 0.9]}
    found = figures(shown)
    assert list(found) == ["shapes", "best", "link-a-b-1-csv"]
    assert found["link-a-b-1-csv"].axes[1].get_title(loc="left") == ""
