"""How a running node is, asked from beside it (`dat-runtime edge status`)."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.edge.bundle import NOT_FIT
from dat_runtime.edge.metrics import address_of
from dat_runtime.edge.node_file import read_node
from dat_runtime.edge.updates.switch import State
from dat_runtime.edge.updates.switch import as_json as as_json_of
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.errors import ConfigError, DatError, ManifestError, printable
from dat_runtime.files import parse

SECONDS = 5.0
"""For the node's answer."""


class StatusError(DatError):
    """The node does not say how it is."""


def status(path: Path) -> int:
    """Print a node's status; 1 when something is wrong with it.

    Raises:
        ConfigError: the settings cannot be read, or say of no address to ask at.
        StatusError: nothing answers there.
    """
    settings = read_node(path)
    if settings.metrics is None:
        raise ConfigError("has no `metrics: {listen: ...}`: add it to ask a running node", path)
    told = _ask(address_of(*settings.metrics) + "/status")
    for line in lines(told):
        print(printable(line))
    return 1 if told["problems"] else 0


def versions_status(path: Path, as_json: bool = False) -> int:
    """Print which version is at work, and how the node is where it can be asked.

    Returns:
        1 when the node does not answer or is not well, or when updates are blocked.

    Raises:
        DatError: settings or versions cannot be read.
    """
    settings = read_node(path)
    versions = Versions(settings.bundle)
    state = versions.state()
    told, words = None, "it has no `metrics: {listen: ...}` to be asked at"
    if settings.metrics is not None:
        try:
            told = _ask(address_of(*settings.metrics) + "/status")
        except StatusError as error:
            words = str(error)
    if as_json:
        print(json.dumps({"versions": as_json_of(state), "node": told}))
    else:
        unfit = _unfit(
            settings.bundle if state.current is None else versions.folder_of(state.current)
        )
        node = lines(told) if told else [f"node      {words}"]
        for line in (*version_lines(state), *unfit, *node):
            print(printable(line))
    is_silent = settings.metrics is not None and told is None
    is_blocked = state.looked is not None and state.looked.stale
    return 1 if is_silent or is_blocked or (told and told["problems"]) else 0


def _ask(url: str) -> Mapping[str, Any]:
    import httpx

    try:
        # Without the environment's proxies: the node is beside us.
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            value = parse(client.get(url).text)
    except (httpx.HTTPError, ValueError) as error:
        words = str(error) or type(error).__name__
        raise StatusError(f"{url}: no node answers ({words})") from None
    if not isinstance(value, dict) or "problems" not in value:
        raise StatusError(f"{url}: what answers is not a node")
    return value


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """A status in words."""
    yield f"node      {told['node']}, dat-runtime {told['version']}"
    for problem in told["problems"]:
        yield f"PROBLEM   {problem}"
    bundle = told["bundle"]
    yield f"bundle    {bundle['version']}{', on probation' if bundle['probation'] else ''}"
    if bundle.get("not_fit"):  # a node of an earlier library says nothing of it
        yield f"          NOT FIT FOR USE: {bundle['not_fit']}"
    if bundle["problem"]:
        yield f"          {bundle['problem']}"
    for name, state in told["cameras"].items():
        yield f"camera    {name}: {state}"
    link = told["uplink"]
    way = "connected" if link["connected"] else "NOT CONNECTED, events wait in the spool"
    yield f"uplink    {link['url']}: {way}"
    if link.get("metered"):
        yield "          metered: only alerts go, visuals and questions wait for another way"
    if link["problem"]:
        yield f"          {link['problem']}"
    if link["connected"] and link["bytes_per_s"]:  # else it is what node.yaml says, or long past
        trip = link["round_trip_s"]
        words = "" if trip is None else f", round trip {1000 * trip:.0f} ms"
        yield f"          carries {link['bytes_per_s'] / 1000:.1f} kB/s{words}"
    if link["last_acknowledged_at"]:
        ago = max(0.0, time.time() - link["last_acknowledged_at"])
        yield f"          last acknowledged {ago:.0f} s ago"
    waiting, spool = told["waiting"], told["spool"]
    yield f"waiting   {waiting['alerts']} alerts, {waiting['visuals']} visuals"
    if told.get("offloads"):
        ways = ", ".join(f"{kind} {number}" for kind, number in told["offloads"].items())
        yield f"finished  by the receiver: {ways}; {waiting['questions']} wait"
    share = spool["bytes"] / spool["max_bytes"]
    yield f"spool     {spool['bytes'] / 1e6:.1f} MB, {share:.0%} of what it may hold"
    for reason, number in sorted(told["dropped"].items()):
        yield f"dropped   {reason}: {number}"


def _unfit(bundle: Path) -> Iterator[str]:
    """That a bundle says of itself that it is not fit for use."""
    with contextlib.suppress(ManifestError):  # what is wrong with it is not asked here
        if not_fit := manifest.read(bundle).config.get(NOT_FIT):
            yield f"          NOT FIT FOR USE: {not_fit}"


def version_lines(state: State) -> Iterator[str]:
    """The versions in words."""
    yield f"current   {state.current or 'none installed: node.yaml names the bundle'}"
    if state.probation is not None:
        yield f"          on probation since {_when(state.probation.since)}"
    if state.previous is not None:
        yield f"previous  {state.previous}"
    for version, reason in state.blocked.items():
        yield f"blocked   {version}: {reason}"
    if state.looked is not None:
        stale = "STALE, updates are blocked: " if state.looked.stale else ""
        problem = state.looked.problem or "all well"
        yield f"updates   looked for at {_when(state.looked.at)}: {stale}{problem}"


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # a clock that was far off
        return f"{seconds:.0f} s"
