"""What ApproxBit's own figures show, in words and tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.offloading.adaptation import LAST, LOW
from eval.offloading.plots import link_name
from eval.offloading.scenarios import FIG_9, SPREAD, TRACE_MEAN
from eval.offloading.sections import Grid, Section
from eval.offloading.shapes import TOLERANCE_MS

Results = Mapping[str, Any]

BINARY = 1000 / 1024
"""Where 1,024 bytes were counted as a thousand."""


def of_paper(paper: Results) -> Iterator[Section]:
    """Tables 1 and 2, their misprints, and Fig. 6."""
    yield _shapes(paper["tables"])
    yield _misprints(paper)
    yield _best(paper["best"])


def _shapes(tables: Sequence[Results]) -> Section:
    stated = [row for table in tables for row in table["rows"] if row["tensor"] is not None]
    follow = [row for row in stated if row["from_shape"]]
    worst = max(row["worst_ms"] for row in follow)
    says = (
        "A latency is computing plus 8 d/B. With d from the shape of the tensor that is sent, and "
        f"computing from the 50 Mbps column, the other two columns follow: {len(follow)} of the "
        f"{len(stated)} rows whose shape is known agree within {TOLERANCE_MS} ms but for what is "
        f"misprinted (largest difference {worst:.2f} ms). Accuracies cannot be had without the "
        "models."
    )
    return Section(
        "Latencies of Tables 1 and 2, from tensor shapes",
        says,
        plot="shapes",
        remarks=[
            "In brackets what is printed. Computing is the same in all columns of a row.",
            'Where "columns" gives d no shape does: it is what the 3 and 50 Mbps columns imply, '
            "and 6 Mbps is the check.",
        ],
        grids=[_latencies(table) for table in tables],
    )


def _latencies(table: Results) -> Grid:
    rows = []
    for row in table["rows"]:
        source = "shape" if row["from_shape"] else "columns"
        pairs = map(_pair, row["predicted_ms"][:-1], row["latency_ms"][:-1])
        rows.append([row["method"], f"{row['bytes']:,.0f}", source, *pairs])
    speeds = [f"{mbps:g} Mbps, ms (printed)" for mbps in table["mbps"][:-1]]
    title = f"{table['model']}, Table {table['table']}: {table['input']}"
    return Grid(["Method", "d (bytes)", "d from", *speeds], rows, title)


def _pair(ours: float, printed: float) -> str:
    return f"{ours:,.1f} ({printed:,.1f})"


def _misprints(paper: Results) -> Section:
    rows = []
    for found in paper["misprints"]:
        where = f"{found['model']}, {found['method']}, {found['mbps']:g} Mbps"
        rows.append([where, f"{found['printed_ms']:,.1f}", f"{found['expected_ms']:,.1f}"])
    says = (
        "Cells that contradict the other two of their row. All others agree with theirs to the "
        "last digit or one unit of it."
    )
    remarks = [_exchanged(pair) for pair in paper["exchanged"]]
    remarks += _not_from_shape(paper["tables"])
    grid = Grid(["Cell", "Printed (ms)", "Should be (ms)"], rows)
    return Section("Misprints", says, remarks=remarks, grids=[grid])


def _exchanged(pair: Results) -> str:
    sends = (
        f"{pair['model']}, {pair['method']}: High, which should compress more, sends "
        f"{pair['high_bytes'] / 1000:,.0f} kB and Low {pair['low_bytes'] / 1000:,.0f} kB"
    )
    if pair["more_accurate"]:
        return f"{sends}; it is also the more accurate, so the two names are used the other way."
    return (
        f"{sends}, and is the less accurate all the same: the two rows' latencies look exchanged."
    )


def _not_from_shape(tables: Sequence[Results]) -> list[str]:
    """What the columns say of d where the shape does not give it."""
    found = []
    for table in tables:
        for row in table["rows"]:
            if row["shape_bytes"] is None or row["from_shape"]:
                continue
            line = (
                f"{table['model']}, {row['method']}: the columns imply {row['bytes']:,.0f} bytes, "
                f"{row['bytes'] / row['shape_bytes']:.3f} of the shape's {row['shape_bytes']:,.0f}"
            )
            rest = row["bytes"] - row["shape_bytes"] * BINARY
            if 0 < rest < 1000:
                line += f"; it is 1,000 bytes for each 1,024 and {rest:.0f} more"
            found.append(line + ".")
    return found


def _best(best: Sequence[Results]) -> Section:
    says = (
        "The Pareto set: alternatives that no other one beats in latency without losing accuracy. "
        "The plot is the paper's Fig. 6 for MViTv2-B on its faster device."
    )
    models = list(dict.fromkeys(part["model"] for part in best))
    remarks = [_others([part for part in best if part["model"] == model]) for model in models]
    remarks.append("In the tables a dash: beaten at this bandwidth.")
    grids = [_pareto([part for part in best if part["model"] == model]) for model in models]
    return Section("Best alternatives at each bandwidth (Fig. 6)", says, "best", remarks, grids)


def _pareto(parts: Sequence[Results]) -> Grid:
    """One model: the latency of each alternative where it is among the best."""
    cells: dict[tuple[str, float], list[str]] = {}
    for column, part in enumerate(parts):
        for point in part["points"]:
            if point["best"]:
                row = cells.setdefault((point["method"], point["accuracy"]), ["-"] * len(parts))
                row[column] = f"{point['latency_ms']:,.1f}"
    speeds = [f"{part['mbps']:g} Mbps" for part in parts]
    by_accuracy = sorted(cells, key=lambda key: key[1])
    rows = [[method, f"{a:.1f}", *cells[method, a]] for method, a in by_accuracy]
    return Grid(["Method", "%", *speeds], rows, f"{parts[0]['model']}: accuracy, latency in ms")


def _others(parts: Sequence[Results]) -> str:
    """Which of a model's best alternatives are not ApproxBit's."""
    texts = []
    for part in parts:
        names = [point["method"] for point in part["points"] if point["best"]]
        others = [name for name in names if not name.startswith("ApproxBit")]
        count = f"{len(names) - len(others)} codes"
        texts.append(f"{part['mbps']:g} Mbps {' and '.join([count, *others])}")
    return f"{parts[0]['model']}: {'; '.join(texts)}."


def of_link(link: Results) -> Section:
    """One scenario: what each controller missed, and what it gave up for that."""
    rows = []
    for figures in link["controllers"]:
        timed, graded = figures["latency"], figures["accuracy"]
        rows.append(
            [
                str(figures["cameras"]),
                figures["controller"],
                _share(timed["missed_share"]),
                f"{_share(_infeasible(timed))} / {_share(_infeasible(graded))}",
                f"{_percent(timed['mean_accuracy'])} ({_percent(timed['best_accuracy'])})",
                _share(graded["missed_share"]),
                f"{_ms(graded['mean_latency'])} ({_ms(graded['best_latency'])})",
            ]
        )
    columns = [
        "Cameras",
        "Bandwidth foreseen",
        "Latency missed",
        "Infeasible (latency / accuracy)",
        "Accuracy then (best)",
        "Accuracy missed",
        "Latency then, ms (best)",
    ]
    is_drawn = link["name"] == FIG_9
    title = "Targets on a link that changes (Fig. 9)" if is_drawn else _titled(link)
    plot = link_name(link["name"])
    return Section(title, _about(link, is_drawn), plot, _link_remarks(link), [Grid(columns, rows)])


def _titled(link: Results) -> str:
    return f"Targets on the trace {link['name']} (as Fig. 10)"


def _about(link: Results, is_drawn: bool) -> str:
    seconds = link["windows"][-1]["end"]
    targets = ", ".join(_target(window) for window in link["windows"])
    if is_drawn:
        course = (
            f"{link['links']} links of 50, 3 and 6 Mbps, twice, each second's speed log-normal "
            f"about it (coefficient of variation {SPREAD:g}, our reading)"
        )
    else:
        course = f"The first {seconds:,} s, rescaled to {TRACE_MEAN:g} Mbps on average"
    return f"{course}; in six windows the targets are {targets}. The plot shows one camera."


def _target(window: Results) -> str:
    if window["max_latency"] is not None:
        return f"{1000 * window['max_latency']:g} ms"
    return f"{100 * window['min_accuracy']:g} %"


def _link_remarks(link: Results) -> list[str]:
    by_name = {(f["cameras"], f["controller"]): f["latency"] for f in link["controllers"]}
    last, low = by_name[1, LAST.name], by_name[1, LOW.name]
    several = max(f["cameras"] for f in link["controllers"])
    counted = by_name[several, LOW.name]["missed_share"]
    uncounted = by_name[several, f"{LOW.name}, d/B alone"]["missed_share"]
    remarks = [
        f"One camera: the low quantile misses {_share(low['missed_share'])} of the latencies that "
        f"could be kept, the last sample alone {_share(last['missed_share'])}; mean accuracy "
        f"{_percent(low['mean_accuracy'])} and {_percent(last['mean_accuracy'])}.",
        f"{several} cameras: with d/B alone, whatever waits ahead, the low quantile misses "
        f"{_share(uncounted)}; with the queue counted {_share(counted)}.",
        "Missed: of the clips for which some alternative would have kept the target on the link as "
        "it really was. Infeasible: those for which none would. In brackets the best that knowing "
        "the link would have brought.",
    ]
    tightest = min(window["max_latency"] or 1 for window in link["windows"])
    if link["name"] != FIG_9 and link["fastest_s"] > tightest:
        remarks.append(
            f"At {TRACE_MEAN:g} Mbps the fastest of the paper's own rows takes "
            f"{1000 * link['fastest_s']:.1f} ms: {1000 * tightest:g} ms, which it says is kept "
            "there throughout, cannot be."
        )
    return remarks


def _infeasible(figures: Results) -> float:
    return float(figures["infeasible"] / figures["clips"])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:,.1f}"
