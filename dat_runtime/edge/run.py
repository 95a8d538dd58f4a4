"""A node put together from its settings, and run (`dat-runtime edge run`)."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import __version__
from dat_runtime.edge.asking import Asking
from dat_runtime.edge.cameras.watch import Cameras
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.metrics import MetricsServer, Status
from dat_runtime.edge.node import Gate, Node
from dat_runtime.edge.node_file import read_node
from dat_runtime.edge.node_settings import NodeSettings, OffloadSettings
from dat_runtime.edge.offloading.controller import Controller, usable_rows
from dat_runtime.edge.offloading.encoder import Encoder, patience
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.offloading.offloading import Offloading
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import Spool
from dat_runtime.edge.updates.at_work import first, given
from dat_runtime.edge.updates.serving import Follower
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.edge.uplink.uplink import Uplink
from dat_runtime.errors import ConfigError, forget_output, printable

ANSWER_WAIT = 0.9
"""Seconds that an event waits for the MLLM before the gate tells it: with the event's own making it
is on its way within 1 s of the frame."""

DROPS = ("_dropped", "_failed", "_lost", "_not_kept", "_refused", "_superseded")
"""Ends of the names of counters that say what did not arrive."""

log = logging.getLogger("dat_runtime.edge")


@dataclass
class Assembly:
    """A node with all that it is made of, started by `run`."""

    settings: NodeSettings
    node: Node
    cameras: Cameras
    spool: Spool
    uplink: Uplink
    counts: Counts
    follower: Follower

    def status(self) -> Status:
        """What the node says of itself to its own machine (`/status`)."""
        link, usage = self.uplink.state, self.spool.usage
        return {
            "node": self.settings.node,
            "version": __version__,
            "time": time.time(),
            "problems": self.node.problems(),
            "cameras": self.cameras.states(),
            "uplink": {
                "url": link.url,
                "connected": link.connected,
                "metered": link.metered,
                "problem": link.problem,
                "bytes_per_s": link.bytes_per_s,
                "round_trip_s": link.round_trip_s,
                "last_acknowledged_at": link.last_acknowledged_at,
            },
            "waiting": {
                "alerts": link.alerts_waiting,
                "visuals": link.visuals_waiting,
                "questions": link.questions_waiting,
            },
            "spool": {
                "bytes": usage.bytes,
                "alerts": usage.alerts,
                "visuals": usage.visuals,
                "questions": usage.questions,
                "max_bytes": self.settings.spool.max_bytes,
            },
            "dropped": dropped(self.counts),
            "bundle": self.follower.status(),
            "offloads": chosen(self.counts),
        }


def dropped(counts: Counts) -> dict[str, int]:
    """What did not arrive, by what and why, over all cameras."""
    found: Counter[str] = Counter()
    for (name, labels), number in counts.snapshot().items():
        if name.endswith(DROPS):
            reason = dict(labels).get("reason")
            found[name if reason is None else f"{name}: {reason}"] += number
    return dict(found)


def chosen(counts: Counts) -> dict[str, int]:
    """How answers were to be finished so far, by kind; empty where nothing is."""
    return {
        dict(labels)["kind"]: number
        for (name, labels), number in counts.snapshot().items()
        if name == "offloads"
    }


def assemble(settings: NodeSettings, gate: Gate | None = None) -> Assembly:
    """The node that the settings describe, not yet started.

    Args:
        gate: in place of the bundle's.

    Raises:
        DatError: the bundle, the spool, or what the MLLM needs cannot be used.
    """
    counts = Counts()
    spool = Spool(
        settings.spool.path, settings.spool.max_bytes, settings.spool.alert_reserve_bytes, counts
    )
    cameras = Cameras(settings.cameras, counts)
    versions = Versions(settings.bundle)
    at_work = first(settings, versions) if gate is None else given(gate, settings)
    asking = None
    if settings.mllm is not None:
        mllm = settings.mllm
        asked = at_work.assessor if at_work.is_served else None
        asking = Asking(asked, mllm.concurrency, ANSWER_WAIT, mllm.timeout, counts)

    def told() -> dict[str, Any]:
        status = assembly.status()
        uplink = {name: status["uplink"][name] for name in ("bytes_per_s", "round_trip_s")}
        shared = {name: status[name] for name in ("time", "cameras", "waiting", "dropped")}
        not_fit = status["bundle"]["not_fit"]
        said = {} if not_fit is None else {"not_fit": not_fit[:200]}
        return {"schema": 1, "uplink": uplink, **shared, **said}

    uplink = Uplink(settings.uplinks, spool, counts, settings.node, status=told)
    offloading = None
    if settings.offload is not None:
        offloading = offloading_of(settings.offload, settings, spool, uplink, counts)
    node = Node(settings.node, at_work.gate, cameras, asking, spool, uplink, counts, offloading)
    follower = Follower(settings, versions, node, asking, at_work)
    assembly = Assembly(settings, node, cameras, spool, uplink, counts, follower)
    return assembly


def offloading_of(
    offload: OffloadSettings, settings: NodeSettings, spool: Spool, uplink: Uplink, counts: Counts
) -> Offloading:
    """What has the answers of a weak node finished.

    Raises:
        DatError: codec or table cannot be used.
    """
    codec = open_codec(offload.codec)
    rows = usable_rows(offload.table, codec)

    def keep(question: Question) -> bool:
        kept = spool.put_question(question)
        if kept:
            uplink.ask(question)
        return kept

    initial = settings.uplinks[0].initial_bytes_per_s
    controller = Controller(
        rows, offload, initial, lambda: uplink.state, lambda: uplink.bytes_ahead
    )
    encoder = Encoder(offload.codec, codec, patience(rows), counts)
    return Offloading(encoder, controller, keep, counts)


def run(path: Path) -> int:
    """Run a node until SIGTERM, SIGINT, or the end of all its cameras.

    Raises:
        DatError: it cannot start.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each question
    settings = read_node(path)
    assembly = assemble(settings)
    server = _serve(assembly)

    def ask_to_stop(signum: int, _frame: object) -> None:
        assembly.node.stop()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, ask_to_stop)
    names = ", ".join(camera.name for camera in settings.cameras)
    _say(f"node {settings.node}: {names} -> {settings.uplinks[0].url}")
    watch = threading.Thread(target=_watch, args=(assembly,), daemon=True)
    watch.start()
    assembly.follower.start()
    try:
        assembly.node.run()
    finally:
        if server is not None:
            server.stop()
    assembly.follower.stop()  # not reached by a crash, which speaks against a version on probation
    alerts = _total(assembly.counts, "alerts")
    _say(f"node {settings.node} ended: {alerts} alerts, what is not sent is kept")
    return 0


def _serve(assembly: Assembly) -> MetricsServer | None:
    """Metrics, health and status, where the settings ask for them.

    Raises:
        ConfigError: they cannot be served.
    """
    if assembly.settings.metrics is None:
        return None
    try:
        server = MetricsServer(assembly.settings.metrics, assembly.counts, assembly.status)
    except ConfigError:
        assembly.follower.stop()  # no fault of the version's
        raise
    server.start()
    _say(f"metrics, health and status on {server.address}")
    return server


def _say(words: str) -> None:
    """Print a line. Whoever read them may be gone, or their disk full: the node goes on."""
    try:
        print(words, flush=True)
    except OSError:
        forget_output()


def _total(counts: Counts, name: str) -> int:
    return sum(number for (series, _), number in counts.snapshot().items() if series == name)


def _watch(assembly: Assembly) -> None:
    """Every second: log what came and went, and tell systemd that the node is well."""
    changes = _Changes()
    notify("READY=1")
    while True:
        try:
            changes.tell(assembly.status())
        except Exception:  # a defect, and no reason to have systemd end a node that works
            log.exception("the node's state cannot be told")
        if assembly.node.looks:
            notify("WATCHDOG=1")
        time.sleep(1.0)


class _Changes:
    """What of a node's status was logged last."""

    def __init__(self) -> None:
        self._cameras: dict[str, str] = {}
        self._way = ""

    def tell(self, status: Status) -> None:
        """Log what has changed since."""
        for name, state in status["cameras"].items():
            if self._cameras.get(name) != state:
                log.info("camera %s: %s", name, state)
        self._cameras = status["cameras"]
        link = status["uplink"]
        if self._way != (way := _way(link)):
            problem = f" ({link['problem']})" if link["problem"] else ""
            log.info("uplink: %s%s", way, printable(problem))
        self._way = way


def notify(state: str) -> None:
    """Tell systemd (sd_notify); nothing where it does not ask for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)
    except OSError as error:
        log.warning("systemd cannot be told: %s", error)


def _way(link: Mapping[str, Any]) -> str:
    """How the uplink is, without its problem's words, which may change with every try."""
    if link["connected"]:
        return "connected"
    # Before the first try there is no problem, and nothing to tell.
    return "not connected, events wait in the spool" if link["problem"] else "connecting"
