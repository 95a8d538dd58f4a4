"""All results of `eval.offload`, as offload.json holds them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eval.offloading import behaviour, pareto, scenarios, shapes
from eval.offloading.accuracy import METRICS
from eval.offloading.curve import SEEN, Curve, leads
from eval.offloading.printed import Model, models
from eval.offloading.shapes import Checked
from eval.uplink.trace import Rates

Results = dict[str, Any]

FOLLOWED = "MViTv2-B"
"""The model whose codes the controller selects from, as in the paper's Figs. 9 and 10."""


def of_paper() -> Results:
    """Tables 1 and 2 from shapes, what they misprint, and the best alternatives (Fig. 6)."""
    printed = [(model, shapes.check(model)) for model in models()]
    return {
        "tables": [_table(model, rows) for model, rows in printed],
        "misprints": [
            asdict(row.misprint) for _, rows in printed for row in rows if row.misprint is not None
        ],
        "exchanged": [
            asdict(pair) for model, rows in printed for pair in shapes.exchanged(model, rows)
        ],
        "best": [
            {"model": model.name, "mbps": mbps, "points": [asdict(point) for point in points]}
            for model, rows in printed
            for mbps, points in pareto.points(model, rows).items()
        ],
    }


def _table(model: Model, rows: list[Checked]) -> Results:
    return {
        "model": model.name,
        "table": model.table,
        "input": model.input,
        "mbps": model.mbps,
        "rows": [
            {
                **asdict(checked.row),
                "shape_bytes": checked.row.shape_bytes,
                "bytes": checked.size,
                "from_shape": checked.from_shape,
                "base_ms": checked.base_ms,
                "predicted_ms": checked.predicted_ms,
                "worst_ms": checked.worst_ms,
            }
            for checked in rows
        ],
    }


def of_links(traces: Mapping[str, Rates], seeds: int) -> list[Results]:
    """The controller over Fig. 9's link and over each trace, as in Fig. 10."""
    model = next(model for model in models() if model.name == FOLLOWED)
    rows = scenarios.rows_of(model, shapes.check(model))
    fastest = min(row.latency(scenarios.TRACE_MEAN * scenarios.MBPS) for row in rows)
    followed = [scenarios.fig_9(seeds)]
    followed += [scenarios.fig_10(name, rates) for name, rates in traces.items()]
    found = []
    for scenario in followed:
        print(f"[offload] the controller on {scenario.name}", flush=True)
        found.append(
            {
                "name": scenario.name,
                "links": len(scenario.links),
                "fastest_s": fastest,
                "windows": [asdict(window) for window in scenario.windows],
                "controllers": behaviour.of_scenario(scenario, rows),
                "course": behaviour.course(scenario, rows),
            }
        )
    return found


def of_curve(curve: Curve) -> Results:
    """Our own measured rows, and at which bytes codes beat pictures."""
    return {
        "frames": curve.frames,
        "codec": curve.codec.id,
        "seconds": dict(curve.seconds),
        "rows": curve.rows,
        "leads": {m: [asdict(lead) for lead in leads(curve.rows, m)] for m in (*METRICS, SEEN)},
        "goal": curve.goal,
        "picture_matters": curve.picture_matters,
    }
