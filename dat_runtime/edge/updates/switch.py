"""Which version of the bundle a node runs, and each step from one to another. Values only.

    switched -> probation -> kept
                          -> returned: the previous version runs again, this one stays blocked

A version is named by the first 16 digits of the sha256 of its bundle's `manifest.json`, as alerts
and offers state it: the name says the content.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dat_runtime import fields
from dat_runtime.edge.updates.probation import Measured
from dat_runtime.fields import Rule, checked, number, optional, whole

STATE_VERSION = 1

MOST_STARTS = 3
"""Starts in a row that did not end as asked (crashes, a watchdog, power cuts) within probation."""

MOST_BLOCKED = 1000
"""Versions remembered as blocked; the oldest is forgotten first."""

NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Probation:
    """The first time of a version at work.

    Attributes:
        since: seconds since 1970.
        starts: of the node with this version that have not ended as asked.
        baseline: what was measured of the version before, where anything was.
    """

    since: float
    starts: int = 0
    baseline: Measured | None = None


@dataclass(frozen=True)
class Signed:
    """What the keys said of a version: its release, which rises, and its base's image processor."""

    release: int
    processor: str


@dataclass(frozen=True)
class Looked:
    """The last look for updates.

    Attributes:
        at: seconds since 1970.
        problem: why nothing could be learnt, in words; `None` where all went well.
        stale: the signed metadata ran out: updates are blocked until new ones are published.
    """

    at: float
    problem: str | None = None
    stale: bool = False


@dataclass(frozen=True)
class State:
    """What a node knows of its versions.

    Attributes:
        current: the version at work; `None` before the first installation.
        previous: the one to return to.
        probation: of the current one; `None` once it is kept.
        blocked: versions that failed, and why.
        signed: of the current and the previous version, those that came signed.
        served: the adapter (`serving.adapter_of`) that the MLLM's server has under its plain name.
        looked: `None`: never.
    """

    current: str | None = None
    previous: str | None = None
    probation: Probation | None = None
    blocked: Mapping[str, str] = field(default_factory=dict)
    signed: Mapping[str, Signed] = field(default_factory=dict)
    served: str | None = None
    looked: Looked | None = None


def adopted(state: State, version: str, served: str | None) -> State:
    """The bundle that node.yaml names, as the first version."""
    return replace(state, current=version, served=served)


def switched(state: State, version: str, now: float, signed: Signed | None = None) -> State:
    """Another version is the current one, on probation.

    One that is on probation itself proved nothing yet: the one before it stays to be returned to.
    """
    if version == state.current:
        return state
    previous, baseline = state.current, None
    if state.probation is not None and state.previous not in (None, version):
        previous, baseline = state.previous, state.probation.baseline
    origins = {name: said for name, said in state.signed.items() if name == previous}
    if signed is not None:
        origins[version] = signed
    moved = replace(state, current=version, previous=previous, signed=origins)
    return replace(moved, probation=Probation(now, baseline=baseline))


def measured(state: State, baseline: Measured) -> State:
    """What the version before did, for the comparison; what is known already stays."""
    if state.probation is None or state.probation.baseline is not None:
        return state
    return replace(state, probation=replace(state.probation, baseline=baseline))


def served(state: State, adapter: str | None) -> State:
    """The MLLM's server was started with an adapter under its plain name; `None`: with which one
    is not known.
    """
    return replace(state, served=adapter)


def looked(state: State, look: Looked) -> State:
    """Updates were looked for."""
    return replace(state, looked=look)


def started(state: State) -> State:
    """The node starts with the current version."""
    return _with_starts(state, 1)


def ended(state: State) -> State:
    """The node ends as it was asked to."""
    return _with_starts(state, -1)


def _with_starts(state: State, change: int) -> State:
    probation = state.probation
    if probation is None:
        return state
    starts = max(0, probation.starts + change)
    return replace(state, probation=replace(probation, starts=starts))


def kept(state: State) -> State:
    """Probation is over; the previous version stays for a rollback by hand."""
    return replace(state, probation=None)


def returned(state: State, reason: str) -> State:
    """The previous version is the current one again, and this one is blocked.

    Raises:
        ValueError: there is no previous version.
    """
    if state.current is None or state.previous is None:
        raise ValueError("there is no previous version to return to")
    failed = blocked(state, state.current, reason)
    return replace(failed, current=state.previous, previous=None, probation=None)


def blocked(state: State, version: str, reason: str) -> State:
    """A version is not installed again until it is unblocked."""
    others = {name: why for name, why in state.blocked.items() if name != version}
    newest = dict(list(others.items())[-MOST_BLOCKED + 1 :])
    return replace(state, blocked={**newest, version: reason})


def unblocked(state: State, version: str) -> State:
    """A version may be installed again.

    Raises:
        ValueError: it is not blocked.
    """
    if version not in state.blocked:
        names = ", ".join(state.blocked) or "none"
        raise ValueError(f"{version} is not blocked (blocked: {names})")
    others = {name: why for name, why in state.blocked.items() if name != version}
    return replace(state, blocked=others)


# As JSON

_VERSION = Rule(
    lambda v: isinstance(v, str) and NAME.fullmatch(v) is not None, "a version of 16 digits"
)
_BLOCKED = Rule(
    lambda v: (
        isinstance(v, dict)
        and len(v) <= MOST_BLOCKED
        and all(map(_VERSION.holds, v))
        and all(isinstance(reason, str) for reason in v.values())
    ),
    "an object of versions and reasons",
)
_SIGNED = Rule(
    lambda v: isinstance(v, dict) and len(v) <= 2 and all(map(_VERSION.holds, v)),
    "an object of at most two versions",
)
_STATE = {
    "schema": Rule(lambda v: v == STATE_VERSION, str(STATE_VERSION)),
    "current": optional(_VERSION),
    "previous": optional(_VERSION),
    "probation": optional(fields.OBJECT),
    "blocked": _BLOCKED,
    "signed": _SIGNED,
    "served": optional(_VERSION),
    "looked": optional(fields.OBJECT),
}
_SIGNED_ONE = {"release": whole(1), "processor": fields.TEXT}
_PROBATION = {"since": number(), "starts": whole(0), "baseline": optional(fields.OBJECT)}
_LOOKED = {"at": number(), "problem": optional(fields.TEXT), "stale": fields.FLAG}


def as_json(state: State) -> dict[str, Any]:
    """The state as a file holds it."""
    return {"schema": STATE_VERSION, **asdict(state)}


def from_json(value: object) -> State:
    """The state that a file holds.

    Raises:
        ValueError: names the field that is wrong.
    """
    top = dict(checked(value, _STATE, ""))
    del top["schema"]
    if top["probation"] is not None:
        part = checked(top["probation"], _PROBATION, "probation")
        baseline = part["baseline"]
        measure = None if baseline is None else Measured.from_json(baseline)
        top["probation"] = Probation(part["since"], part["starts"], measure)
    top["signed"] = {
        name: Signed(**checked(said, _SIGNED_ONE, name)) for name, said in top["signed"].items()
    }
    if top["looked"] is not None:
        top["looked"] = Looked(**checked(top["looked"], _LOOKED, "looked"))
    return State(**top)
