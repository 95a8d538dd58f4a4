"""The spool beside a model in memory, whatever is asked of both in whatever order."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from benchmarks.spool_faults import make_event
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import LEAST_BYTES, Spool, SpoolError
from dat_runtime.edge.spool_tables import VISUAL_LIFETIME

MEMORY = Path("/dev/shm")
ids = st.sampled_from(["a", "b", "c", "d"])
revisions = st.integers(0, 3)
priorities = st.sampled_from([0.0, 0.3, 0.9])


@dataclass
class Kept:
    revision: int
    priority: float
    json: bytes | None
    """None once acknowledged."""
    last_json: bytes
    visual: bytes | None
    visual_revision: int
    last_visual: bytes | None
    """That waits, or was settled."""
    expires: float = 0.0
    known: bool = False


class Twins(RuleBasedStateMachine):
    """A spool with room for everything: it holds exactly what the model holds."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.now = 10.0
        self.wall = 1.8e9
        self.model: dict[str, Kept] = {}
        self.expected: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        self.counts = Counts()
        self.spool = Spool(
            self.folder / "spool.sqlite",
            20 * LEAST_BYTES,
            LEAST_BYTES,
            self.counts,
            clock=lambda: self.wall,
            monotonic=lambda: self.now,
        )

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    def count(self, name: str) -> None:
        self.expected[name] = self.expected.get(name, 0) + 1

    def tidy(self) -> None:
        self.model = {i: k for i, k in self.model.items() if k.json or k.visual}

    @rule(
        id=ids,
        revision=revisions,
        priority=priorities,
        with_visual=st.booleans(),
        other=st.booleans(),
    )
    def put(self, id: str, revision: int, priority: float, with_visual: bool, other: bool) -> None:
        event = make_event(
            id,
            priority,
            revision=revision,
            json=b"other" if other else None,
            visual_bytes=6000 if with_visual else 0,
        )
        old = self.model.get(id)
        if old is not None and revision == old.revision and old.last_json != event.json:
            with pytest.raises(SpoolError, match="other content"):
                self.spool.put(event, "north")
            self.count("alerts_dropped")
            return
        self.spool.put(event, "north")
        if old is not None and revision == old.revision:
            return
        if old is not None and (revision < old.revision or old.json is not None):
            self.count("alerts_superseded")
        if old is not None and revision < old.revision:
            return
        kept = old or Kept(0, 0.0, None, b"", None, 0, None)
        kept.revision, kept.priority, kept.json = revision, priority, event.json
        kept.last_json = event.json
        if event.roi is not None and event.roi != kept.last_visual:
            if kept.visual is not None:
                self.count("visuals_superseded")
            kept.visual = kept.last_visual = event.roi
            kept.visual_revision = revision
            kept.expires = self.now + VISUAL_LIFETIME
        self.model[id] = kept

    @rule(id=ids, kind=st.sampled_from(["json", "roi", "box"]), revision=revisions)
    def acknowledge(self, id: str, kind: str, revision: int) -> None:
        self.spool.acknowledge(id, kind, revision)  # type: ignore[arg-type]
        kept = self.model.get(id)
        if kept is None:
            return
        if kind == "json":
            kept.known = True
            if revision >= kept.revision:
                kept.json = None
        if kind == "roi" and revision >= kept.visual_revision:
            kept.visual = None
        self.tidy()

    @rule(id=ids, kind=st.sampled_from(["json", "roi"]))
    def refuse(self, id: str, kind: str) -> None:
        self.spool.refuse(id, kind, "never")  # type: ignore[arg-type]
        kept = self.model.get(id)
        if kept is None:
            return
        if kind == "roi" and kept.visual is not None:
            kept.visual = None
            self.count("visuals_refused")
        if kind == "json" and kept.json is not None:
            kept.json = None
            self.count("alerts_refused")
            if kept.visual is not None and not kept.known:
                kept.visual = None
                self.count("visuals_dropped")
        self.tidy()

    @rule(hours=st.sampled_from([1, 11, 25]))
    def time_passes(self, hours: int) -> None:
        self.now += 3600.0 * hours
        self.wall += 3600.0 * hours
        self.spool.expire()
        for kept in self.model.values():
            if kept.visual is not None and kept.expires <= self.now:
                kept.visual = None
                self.count("visuals_dropped")
        self.tidy()

    @rule(step=st.sampled_from([-86400.0, 86400.0]))
    def the_clock_is_set(self, step: float) -> None:
        self.wall += step
        self.spool.expire()

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.open()

    @invariant()
    def they_agree(self) -> None:
        waiting = self.spool.waiting()  # what was acknowledged and refused is written by now
        for id in "abcd":
            kept = self.model.get(id)
            assert self.spool.alert(id) == (kept and kept.json)
            assert self.spool.visual(id, "roi") == (kept and kept.visual)
        told = {w.pending.id: w for w in waiting}
        assert set(told) == set(self.model)
        for id, kept in self.model.items():
            one = told[id]
            assert (one.revision, one.pending.priority) == (kept.revision, kept.priority)
            assert one.pending.json_sent == (kept.json is None)
            assert one.pending.roi_bytes == (kept.visual and len(kept.visual))
        counted: dict[str, int] = {}
        for (name, _), n in self.counts.snapshot().items():
            counted[name] = counted.get(name, 0) + n
        assert counted == self.expected


class Crowded(RuleBasedStateMachine):
    """A spool that is too small: what must hold whatever it has to drop."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.put_alerts: set[str] = set()
        self.put_visuals = 0
        self.settled_visuals = 0
        self.open()

    def open(self) -> None:
        self.counts = Counts()
        self.spool = Spool(self.folder / "spool.sqlite", LEAST_BYTES, LEAST_BYTES // 4, self.counts)

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    @rule(
        n=st.sampled_from([1, 2, 40]),
        priority=priorities,
        json_bytes=st.sampled_from([600, 1500, 9000]),
        visual_bytes=st.sampled_from([0, 3000, 40_000, 500_000, 900_000]),
    )
    def put(self, n: int, priority: float, json_bytes: int, visual_bytes: int) -> None:
        for _ in range(n):
            id = f"e{len(self.put_alerts)}"
            event = make_event(
                id, priority, json_bytes=json_bytes, visual_bytes=visual_bytes if n < 9 else 0
            )
            self.put_alerts.add(id)
            why_not = ""
            try:
                self.spool.put(event, "north")
            except SpoolError as error:
                why_not = str(error)
            if why_not:
                assert "no room" in why_not
                assert self.spool.usage.visuals == 0
            else:
                self.put_visuals += event.roi is not None

    @precondition(lambda self: self.put_alerts)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        waiting = self.spool.waiting()
        if waiting:
            one = data.draw(st.sampled_from(waiting)).pending
            self.spool.acknowledge(one.id, "json")
            self.spool.acknowledge(one.id, "roi")
            self.put_alerts.discard(one.id)
            self.put_alerts.add(f"gone {one.id}")
            self.settled_visuals += one.roi_bytes is not None

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.open()

    @invariant()
    def nothing_is_lost_uncounted(self) -> None:
        left = [w.pending for w in self.spool.waiting()]
        alerts = self.counts.of("alerts_dropped", reason="the spool is full")
        gone = sum(id.startswith("gone") for id in self.put_alerts)
        assert len(self.put_alerts) == len(left) + alerts + gone
        visuals = sum(e.roi_bytes is not None for e in left)
        dropped = self.counts.of("visuals_dropped", reason="the spool is full")
        assert self.put_visuals == visuals + dropped + self.settled_visuals

    @invariant()
    def the_files_stay_small(self) -> None:
        files = [f for f in self.folder.iterdir() if not f.name.endswith("-shm")]
        # One visual of nearly the whole size may pass through the log at once.
        assert sum(f.stat().st_size for f in files) <= 2.2 * LEAST_BYTES


calm = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTwins = Twins.TestCase
TestTwins.settings = calm
TestCrowded = Crowded.TestCase
TestCrowded.settings = calm
