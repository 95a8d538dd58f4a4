"""The making of a round's adapter folder: who is heard, the weights, the report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.adapter import CONFIG, WEIGHTS, read_adapter
from dat_runtime.errors import DataError, ModelError, printable
from dat_runtime.federation.aggregation import Outcome, Progress, products_of, write_aggregate
from dat_runtime.federation.factors import Start, read_start
from dat_runtime.federation.inbox import Inbox, read_inbox
from dat_runtime.federation.increment import demand_unchanged
from dat_runtime.federation.keys import read_registry
from dat_runtime.federation.round import Round, demand_start, read_round
from dat_runtime.federation.screening import Screening, screen
from dat_runtime.files import read_bytes, read_json, write_atomically, write_json

REPORT = "federation.json"
PROGRESS_SECONDS = 5

CARD = """
## Federated round {round}
Aggregated from the increments of {heard} of {registered} registered nodes ({mode}, rate {rate}),
{refused} refused; `federation.json` beside this file names them. It was not trained further and is
no better than its scores: see those that it was promoted with.
"""


@dataclass(frozen=True)
class _Heard:
    """A round as far as it was read."""

    opened: Round
    start: Start
    registered: int
    inbox: Inbox
    screening: Screening

    def refusals(self) -> list[str]:
        """Who does not count, and why; files first, then nodes."""
        lines = [f"{refusal.file}: {refusal.reason}" for refusal in self.inbox.refusals]
        for one, verdict in zip(self.inbox.increments, self.screening.verdicts, strict=True):
            if verdict.refused:
                lines.append(f"{one.path.name}: {one.node}: {verdict.refused}")
        return lines


def make_adapter(
    folder: Path,
    *,
    round_file: Path,
    start_folder: Path,
    nodes: Path,
    increments: Path,
    mode: str,
    rate: float,
    name: str,
) -> None:
    """Fill the output folder of `train.aggregate`.

    Args:
        name: the progress lines begin with it.

    Raises:
        DataError: no increment counts, the nodes do not agree, the start is not the round's, or an
            increment was changed while it was read.
        ConfigError: the registry or the folder of increments cannot be used.
        ModelError: the start is broken, or `mode` cannot write the average.
    """
    heard = _listen(round_file, start_folder, nodes, increments, name)
    clients = [one.weights for one in heard.inbox.increments]
    outcome = write_aggregate(
        folder / WEIGHTS,
        heard.start,
        clients,
        heard.screening.coefficients,
        mode,
        rate,
        _progress(name, "averaged"),
    )
    for one in heard.inbox.increments:
        demand_unchanged(one)
    _write_config(folder / CONFIG, heard.start, outcome.rank)
    read_adapter(folder)
    for file in ("config.yaml", "README.md"):
        content = read_bytes(start_folder / file, missing="train.lora writes it")
        write_atomically(folder / file, content)
    report = _report(heard, outcome, mode, rate)
    write_json(folder / REPORT, report)
    with (folder / "README.md").open("a", encoding="utf-8") as card:
        card.write(CARD.format(**report))
    print(f"[{name}] {_summary(report)}", flush=True)


def _listen(
    round_file: Path, start_folder: Path, nodes: Path, increments: Path, name: str
) -> _Heard:
    """Read all increments and screen them; prints who is refused, also when nobody is left."""
    opened = read_round(round_file)
    start = read_start(start_folder)
    demand_start(opened, start, round_file)
    registry = read_registry(nodes)
    inbox = read_inbox(increments, registry, opened, start)
    _print(name, [f"{refusal.file}: {refusal.reason}" for refusal in inbox.refusals])
    if not inbox.increments:
        raise DataError(
            f"{increments} holds no increment that counts for round {opened.round}: "
            f"{len(inbox.refusals)} refused, named above"
        )
    clients = [one.weights for one in inbox.increments]
    products = products_of(start, clients, _progress(name, "compared"))
    screening = screen(products, [one.samples for one in inbox.increments])
    heard = _Heard(opened, start, len(registry), inbox, screening)
    _print(name, heard.refusals()[len(inbox.refusals) :])
    return heard


def _print(name: str, refusals: Sequence[str]) -> None:
    for line in refusals:
        # A file's name may hold lines of its own, which would read as ours.
        print(printable(f"[{name}] refused {line}").replace("\n", "\\n"), flush=True)


def _write_config(path: Path, start: Start, rank: int) -> None:
    """The start's configuration; of another rank, with the alpha that keeps the scale."""
    config = read_json(start.folder / CONFIG, ModelError)
    if rank != start.adapter.rank:
        alpha = start.adapter.scale * rank
        config["lora_alpha"] = int(alpha) if alpha == int(alpha) else alpha
        config["r"] = rank
        config["use_rslora"] = False
    write_json(path, config, sort_keys=True)


def _report(heard: _Heard, outcome: Outcome, mode: str, rate: float) -> dict[str, Any]:
    """federation.json: what decided the adapter, in lengths of the increments."""
    screening = heard.screening
    clients = []
    for i, one in enumerate(heard.inbox.increments):
        verdict = screening.verdicts[i]
        if verdict.refused:
            continue
        clients.append(
            {
                "node": one.node,
                "sha256": one.sha256,
                "samples": one.samples,
                "norm": verdict.norm,
                "cosine": verdict.cosine if len(heard.inbox.increments) > 1 else None,
                "clip": verdict.clip,
                "pull": verdict.pull,
                "share": verdict.share,
                "coefficient": float(screening.coefficients[i]),
            }
        )
    return {
        "round": heard.opened.round,
        "start": heard.opened.start,
        "mode": mode,
        "rate": rate,
        "registered": heard.registered,
        "heard": len(clients),
        "refused": len(heard.refusals()),
        "refusals": heard.refusals(),
        "median_norm": screening.median_norm,
        "centre": heard.inbox.increments[screening.centre].node,
        "radius": screening.radius,
        "bound": 4 * rate * screening.median_norm,
        "outcome": outcome.as_json(),
        "clients": clients,
    }


def _summary(report: dict[str, Any]) -> str:
    outcome = report["outcome"]
    return (
        f"{report['heard']} nodes of {report['registered']} heard, {report['refused']} files "
        f"refused; rank {outcome['rank']}, changed by {outcome['change']:.3g} (median increment "
        f"{report['median_norm']:.3g}), {outcome['lost_of_change']:.1%} of the change lost"
    )


def _progress(name: str, done_what: str) -> Progress:
    """Prints how many modules are done, every few seconds."""
    last = time.monotonic()

    def show(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"[{name}] {done_what} {done} of {of} modules", flush=True)

    return show
