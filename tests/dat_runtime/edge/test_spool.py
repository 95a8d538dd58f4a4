import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.spool_faults import make_event
from benchmarks.spool_speed import soak
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import LEAST_BYTES, MOST_DOWNTIME, Spool, SpoolError, Usage
from dat_runtime.edge.spool_database import MOST_REASONS, SCHEMA
from dat_runtime.edge.spool_tables import MOST_REFUSED, VISUAL_LIFETIME

MB = 1_000_000
UNITS = ("alerts", "visuals")
HOUR = 3600.0
DAY = 24 * HOUR


class Clock:
    """A wall clock and time as it passes, both set by hand."""

    def __init__(self) -> None:
        self.wall, self.passed = 1.8e9, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds


@pytest.fixture
def tmp_path(memory: Path) -> Path:
    """Here bytes count, flushes do not."""
    return memory


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, counts: Counts, clock: Clock) -> Iterator[Callable[..., Spool]]:
    """Opens spools, the same one unless a name is given, and closes them at the end."""
    spools: list[Spool] = []

    def open_spool(
        max_bytes: int = 4 * MB, reserve: int = MB, name: str = "spool.sqlite", to: Counts = counts
    ) -> Spool:
        spool = Spool(
            tmp_path / name,
            max_bytes,
            reserve,
            to,
            clock=lambda: clock.wall,
            monotonic=lambda: clock.passed,
        )
        spools.append(spool)
        return spool

    yield open_spool
    for spool in spools:
        spool.close()


def ids(spool: Spool) -> list[str]:
    return [waiting.pending.id for waiting in spool.waiting()]


def size_on_disk(folder: Path) -> int:
    """Of the database, its log and its reserve."""
    files = [f for f in folder.iterdir() if not f.name.endswith("-shm")]
    return sum(f.stat().st_size for f in files)


class TestOneEvent:
    def test_an_event_that_was_put_is_there_after_a_restart(self, opened):
        event = make_event("e", 0.7)
        spool = opened()
        spool.put(event, "north")
        spool.close()
        again = opened()
        (waiting,) = again.waiting()
        assert waiting.camera == "north"
        assert waiting.revision == 0
        # Of ROI and boxed image the one that is sent is kept.
        assert waiting.pending == replace(event.pending(), box_bytes=None)
        assert again.alert("e") == event.json
        assert again.visual("e", "roi") == event.roi
        assert again.visual("e", "box") is None

    def test_an_event_without_a_roi_keeps_its_boxed_image(self, opened):
        event = replace(make_event("e"), roi=None)
        spool = opened()
        spool.put(event, "north")
        assert spool.visual("e", "box") == event.boxed
        assert spool.waiting()[0].pending == event.pending()

    def test_an_event_without_any_visual_is_its_alert_alone(self, opened, counts):
        spool = opened()
        spool.put(replace(make_event("e"), roi=None, boxed=b""), "north")
        assert spool.waiting()[0].pending.box_bytes is None
        spool.acknowledge("e", "json")
        assert spool.waiting() == []
        assert counts.snapshot() == {}

    def test_what_is_acknowledged_waits_no_longer_and_leaves_nothing(self, opened, counts):
        spool = opened()
        empty = spool.usage
        spool.put(make_event("e"), "north")
        spool.acknowledge("e", "json")
        assert spool.alert("e") is None
        assert spool.waiting()[0].pending.json_sent
        assert spool.visual("e", "roi") is not None
        spool.acknowledge("e", "roi")
        assert spool.visual("e", "roi") is None
        assert spool.waiting() == []
        assert spool.usage == empty
        assert counts.snapshot() == {}

    def test_an_acknowledgment_is_seen_at_once_and_written_soon(self, opened):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.acknowledge("e", "json")
        assert spool.alert("e") is None
        spool.close()
        assert opened().waiting()[0].pending.json_sent

    def test_acknowledging_what_is_not_there_changes_nothing(self, opened, counts):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.acknowledge("other", "json")
        spool.acknowledge("e", "box")
        spool.refuse("other", "json", "unknown")
        assert ids(spool) == ["e"]
        assert spool.usage.visuals == 1
        assert counts.snapshot() == {}

    def test_events_wait_in_the_order_of_their_arrival(self, opened):
        spool = opened()
        names = [f"{'cab'[n % 3]}{n}" for n in range(9)]
        for name in names:
            spool.put(make_event(name), "north")
        spool.acknowledge(names[0], "json")
        spool.acknowledge(names[0], "roi")
        spool.put(make_event("last"), "north")
        assert ids(spool) == [*names[1:], "last"]

    def test_a_number_that_no_plan_can_use_is_refused_by_its_name(self, opened):
        with pytest.raises(ValueError, match="priority of event 'e'"):
            opened().put(make_event("e", float("nan")), "north")


class TestRevisions:
    def test_a_later_revision_replaces_what_waits(self, opened, counts):
        spool = opened()
        spool.put(make_event("e", 0.3), "north")
        later = make_event("e", 0.9, revision=1)
        spool.put(later, "north")
        (waiting,) = spool.waiting()
        assert (waiting.revision, waiting.pending.priority) == (1, 0.9)
        assert spool.alert("e") == later.json
        assert spool.visual("e", "roi") == later.roi
        assert counts.of("alerts_superseded") == 1
        assert counts.of("visuals_superseded") == 1

    def test_an_earlier_revision_that_comes_late_is_not_needed(self, opened, counts):
        spool = opened()
        later = make_event("e", revision=2)
        spool.put(later, "north")
        spool.put(make_event("e", revision=1), "north")
        assert spool.alert("e") == later.json
        assert counts.of("alerts_superseded") == 1

    def test_an_acknowledgment_of_the_old_revision_leaves_the_new_one(self, opened):
        spool = opened()
        spool.put(make_event("e"), "north")
        later = make_event("e", revision=1)
        spool.put(later, "north")
        spool.acknowledge("e", "json", 0)
        spool.acknowledge("e", "roi", 0)
        assert spool.alert("e") == later.json
        assert spool.visual("e", "roi") == later.roi
        spool.acknowledge("e", "json", 1)
        spool.acknowledge("e", "roi", 1)
        assert spool.waiting() == []

    def test_a_visual_that_a_revision_does_not_change_goes_out_once(self, opened, counts):
        first = make_event("e")
        spool = opened()
        spool.put(first, "north")
        spool.acknowledge("e", "roi")
        spool.put(replace(make_event("e", revision=1), roi=first.roi), "north")
        assert spool.usage == replace(spool.usage, alerts=1, visuals=0)
        assert counts.of("visuals_superseded") == 0

    def test_a_revision_after_the_alert_went_out_waits_again(self, opened, counts):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.acknowledge("e", "json")
        later = make_event("e", revision=1)
        spool.put(later, "north")
        assert spool.alert("e") == later.json
        assert not spool.waiting()[0].pending.json_sent
        assert counts.of("alerts_superseded") == 0


class TestTheSameIdTwice:
    def test_a_put_that_is_replayed_changes_nothing(self, opened, counts):
        spool = opened()
        for _ in range(3):
            spool.put(make_event("e"), "north")
        spool.acknowledge("e", "json")
        spool.put(make_event("e"), "north")
        assert spool.alert("e") is None
        assert spool.usage.visuals == 1
        assert counts.snapshot() == {}

    def test_another_event_with_the_same_id_is_refused_and_counted(self, opened, counts):
        spool = opened()
        first = make_event("e")
        spool.put(first, "north")
        with pytest.raises(SpoolError, match="event e is there already, with other content"):
            spool.put(make_event("e", json=b"{}"), "north")
        assert spool.alert("e") == first.json
        assert counts.of("alerts_dropped", reason="its id is taken") == 1
        assert spool.healthy


class TestRefused:
    def test_a_refused_alert_is_set_aside_and_its_visual_goes_too(self, opened, counts, tmp_path):
        spool = opened()
        event = make_event("e")
        spool.put(event, "north")
        spool.refuse("e", "json", "priority is 7")
        assert spool.alert("e") is None
        assert spool.waiting() == []
        assert counts.of("alerts_refused", reason="priority is 7") == 1
        assert counts.of("visuals_dropped", reason="its alert was refused") == 1
        spool.close()
        rows = query(tmp_path, "SELECT id, reason, json FROM refused")
        assert rows == [("e", "priority is 7", event.json)]

    def test_the_visual_stays_when_the_receiver_knows_an_earlier_revision(self, opened, counts):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.acknowledge("e", "json")
        spool.put(make_event("e", revision=1), "north")
        spool.refuse("e", "json", "conflict")
        assert spool.alert("e") is None
        assert len(spool.waiting()) == 1
        assert spool.usage == replace(spool.usage, alerts=0, visuals=1)

    def test_a_refused_visual_leaves_its_alert(self, opened, counts):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.refuse("e", "roi", "not a JPEG")
        assert spool.alert("e") is not None
        assert spool.visual("e", "roi") is None
        assert ids(spool) == ["e"]
        assert counts.of("visuals_refused", reason="not a JPEG") == 1

    def test_a_refusal_of_the_old_revision_leaves_the_new_one(self, opened):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.put(make_event("e", revision=1), "north")
        spool.refuse("e", "json", "old", revision=0)
        assert spool.alert("e") == make_event("e", revision=1).json

    def test_refusals_are_bounded_in_number_and_in_reasons(self, opened, counts, tmp_path):
        spool = opened()
        n = MOST_REFUSED + 10
        for i in range(n):
            spool.put(make_event(f"e{i}", visual_bytes=0), "north")
            spool.refuse(f"e{i}", "json", f"reason {i}" + 5000 * "!")
        spool.waiting()
        spool.close()
        assert query(tmp_path, "SELECT count(*), max(length(reason)) FROM refused") == [
            (MOST_REFUSED, 1000)
        ]
        refused = {k: v for k, v in counts.snapshot().items() if k[0] == "alerts_refused"}
        assert sum(refused.values()) == n
        assert len(refused) == MOST_REASONS + 1
        assert counts.of("alerts_refused", reason="other") == n - MOST_REASONS


def query(folder: Path, question: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "spool.sqlite")
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


class TestACapOnBytes:
    def test_visuals_of_low_priority_go_first_and_of_equal_ones_the_oldest(self, opened, counts):
        spool = opened(2 * MB, 0)
        for i in range(60):
            spool.put(make_event(f"e{i}", [0.2, 0.8, 0.5][i % 3], visual_bytes=50_000), "north")
        left = [w.pending for w in spool.waiting() if w.pending.roi_bytes]
        assert len(left) == 60 - counts.of("visuals_dropped", reason="the spool is full") > 20
        assert [e for e in left if e.priority == 0.8] == [
            w.pending for w in spool.waiting() if w.pending.priority == 0.8
        ]
        assert not [e for e in left if e.priority == 0.2]
        kept = [e.id for e in left if e.priority == 0.5]
        assert kept == [f"e{i}" for i in range(2, 60, 3)][-len(kept) :]
        assert len(ids(spool)) == 60

    def test_a_visual_that_is_worth_least_does_not_push_out_others(self, opened, counts):
        spool = opened(2 * MB, 0)
        for i in range(30):
            spool.put(make_event(f"e{i}", 0.1 if i < 3 else 0.8, visual_bytes=50_000), "north")
        before = spool.usage.visuals
        spool.put(make_event("large", 0.5, visual_bytes=700_000), "north")
        assert spool.usage == replace(spool.usage, visuals=before, alerts=31)

    def test_the_files_stay_within_max_bytes(self, opened, tmp_path):
        limit = 3 * MB
        spool = opened(limit, MB // 2)
        largest = 0
        for i in range(300):
            spool.put(make_event(f"e{i}", i % 7 / 7, visual_bytes=20_000 + 100 * i), "north")
            largest = max(largest, size_on_disk(tmp_path))
        assert 0.6 * limit < largest <= limit

    def test_no_alert_goes_while_a_visual_is_there(self, opened, counts):
        spool = opened(LEAST_BYTES, LEAST_BYTES // 8)
        for i in range(100):
            spool.put(make_event(f"e{i}", 0.9 if i % 2 else 0.0), "north")
            if counts.of("alerts_dropped", reason="the spool is full") == 0:
                assert len(ids(spool)) == i + 1
            else:
                assert spool.usage.visuals == 0

    def test_of_alerts_those_of_least_priority_go_then_the_oldest(self, opened, counts, tmp_path):
        spool = opened(LEAST_BYTES, LEAST_BYTES // 8)
        n = 1500
        with ThreadPoolExecutor(16) as cameras:
            puts = [
                cameras.submit(
                    spool.put, make_event(f"e{i}", 0.9 if i % 3 else 0.2, visual_bytes=0), "north"
                )
                for i in range(n)
            ]
        refused = sum(put.exception() is not None for put in puts)
        dropped = counts.of("alerts_dropped", reason="the spool is full")
        left = [w.pending for w in spool.waiting()]
        assert len(left) == n - dropped
        assert dropped >= refused > 0
        assert {e.priority for e in left} == {0.9}
        # The newest of the severe ones are there, and they fill the room that there is.
        assert sum(e.json_bytes for e in left) > 0.5 * LEAST_BYTES
        assert size_on_disk(tmp_path) <= LEAST_BYTES

    def test_an_alert_of_least_priority_is_refused_by_name_and_counted(self, opened, counts):
        spool = opened(LEAST_BYTES, LEAST_BYTES // 8)
        kept = 0
        while counts.of("alerts_dropped", reason="the spool is full") == 0:
            spool.put(make_event(f"e{kept}", 0.9, visual_bytes=0), "north")
            kept += 1
        with pytest.raises(
            SpoolError, match="no room for event minor: all that waits has a higher"
        ):
            spool.put(make_event("minor", 0.3), "north")
        assert spool.healthy
        assert counts.of("alerts_dropped", reason="the spool is full") == 2

    def test_room_of_acknowledged_alerts_is_used_before_any_alert_goes(self, opened, counts):
        spool = opened(LEAST_BYTES, LEAST_BYTES // 8)
        put = 0
        while not counts.of("alerts_dropped", reason="the spool is full"):
            spool.put(make_event(f"e{put}", 0.5, visual_bytes=0), "north")
            put += 1
        for round in range(100):  # every seventh: half-empty pages everywhere
            spool.acknowledge(f"e{(round * 7) % put}", "json")
            spool.waiting()
            spool.put(make_event(f"new{round}", 0.5, visual_bytes=0), "north")
        # Some of those that were acknowledged had been dropped before.
        assert counts.of("alerts_dropped", reason="the spool is full") <= 15

    def test_counts_are_exact_after_a_restart(self, opened, counts):
        spool = opened(2 * MB, 0)
        for i in range(60):
            spool.put(make_event(f"e{i}", 0.5, visual_bytes=50_000), "north")
        spool.close()
        later = Counts()
        opened(2 * MB, 0, to=later)
        assert later.snapshot() == counts.snapshot() != {}

    @pytest.mark.parametrize(("most", "reserve"), [(1000, 0), (MB, -1), (MB, MB // 2 + 1)])
    def test_sizes_that_leave_no_room_are_refused(self, opened, most, reserve):
        with pytest.raises(ValueError, match="max_bytes"):
            opened(most, reserve)


class TestTime:
    def test_visuals_expire_and_alerts_do_not(self, opened, counts, clock):
        spool = opened()
        spool.put(make_event("old"), "north")
        clock.pass_by(VISUAL_LIFETIME - HOUR)
        spool.put(make_event("new"), "north")
        spool.expire()
        assert spool.usage.visuals == 2
        clock.pass_by(HOUR)
        spool.expire()
        assert spool.visual("old", "roi") is None
        assert spool.visual("new", "roi") is not None
        assert spool.usage.alerts == 2
        assert counts.of("visuals_dropped", reason="expired") == 1

    @pytest.mark.parametrize("step", [DAY, -DAY])
    def test_a_clock_that_is_set_by_a_day_expires_nothing_and_keeps_nothing_longer(
        self, opened, clock, step
    ):
        spool = opened()
        spool.put(make_event("e"), "north")
        clock.wall += step
        spool.expire()
        assert spool.usage.visuals == 1
        clock.pass_by(VISUAL_LIFETIME)
        spool.expire()
        assert spool.usage.visuals == 0

    @pytest.mark.parametrize(("step", "aged"), [(DAY, MOST_DOWNTIME), (-DAY, 0.0), (HOUR, HOUR)])
    def test_a_restart_ages_visuals_by_a_bounded_time(self, opened, clock, step, aged):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.expire()
        spool.close()
        clock.wall += step
        clock.passed = 3.0  # the machine has started anew
        spool = opened()
        clock.pass_by(VISUAL_LIFETIME - aged - 1)
        spool.expire()
        assert spool.usage.visuals == 1
        clock.pass_by(1)
        spool.expire()
        assert spool.usage.visuals == 0

    def test_visuals_age_over_many_restarts(self, opened, clock):
        spool = opened()
        spool.put(make_event("e"), "north")
        for _ in range(23):
            clock.pass_by(HOUR)
            spool.close()
            clock.passed = 3.0
            clock.wall += 5 * 60  # to start again
            spool = opened()
        spool.expire()
        assert spool.usage.visuals == 0

    def test_an_outage_of_72_hours_loses_no_alert(self, opened, counts, clock, tmp_path):
        limit = 6 * MB
        spool = opened(limit, 2 * MB)
        severe, n = set(), 0
        largest = 0
        with ThreadPoolExecutor(20) as cameras:
            for hour in range(72):
                events = []
                for _ in range(20):
                    events.append(make_event(f"e{n}", 0.9 if n % 4 == 0 else 0.3))
                    severe |= {f"e{n}"} if n % 4 == 0 else set()
                    n += 1
                list(cameras.map(lambda event: spool.put(event, "north"), events))
                clock.pass_by(HOUR)
                clock.wall += {20: DAY, 40: -DAY}.get(hour, 0)
                spool.expire()
                largest = max(largest, size_on_disk(tmp_path))
        waiting = [w.pending for w in spool.waiting()]
        assert len(waiting) == n
        assert largest <= limit
        visuals = {e.id for e in waiting if e.roi_bytes}
        reasons = ("the spool is full", "expired")
        assert n - len(visuals) == sum(counts.of("visuals_dropped", reason=r) for r in reasons)
        assert counts.of("visuals_dropped", reason="expired") > 0
        # Of the last hours the severe ones still have their visual.
        assert {e for e in severe if int(e[1:]) >= n - 200} <= visuals


class TestOpening:
    def test_two_users_of_one_spool_are_refused_by_name(self, opened, tmp_path):
        opened()
        with pytest.raises(SpoolError, match=rf"spool\.sqlite: is in use by process {os.getpid()}"):
            opened()
        program = (
            "from pathlib import Path; from dat_runtime.edge.spool import Spool;"
            "from dat_runtime.edge.counts import Counts;"
            f"Spool(Path({str(tmp_path / 'spool.sqlite')!r}), 10**6, 0, Counts())"
        )
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert f"is in use by process {os.getpid()}" in other.stderr

    def test_a_newer_schema_is_refused_by_name_and_left_alone(self, opened, tmp_path):
        spool = opened()
        spool.put(make_event("e"), "north")
        spool.close()
        query(tmp_path, f"PRAGMA user_version={SCHEMA + 1}")
        with pytest.raises(SpoolError, match=f"newer release .schema {SCHEMA + 1}, this one"):
            opened()
        assert query(tmp_path, "SELECT id FROM events") == [("e",)]

    def test_the_file_is_stamped_with_the_schema(self, opened, tmp_path):
        opened().close()
        assert query(tmp_path, "PRAGMA user_version") == [(SCHEMA,)]

    def test_a_database_of_something_else_is_left_alone(self, opened, tmp_path):
        query(tmp_path, "CREATE TABLE theirs (x)")
        with pytest.raises(SpoolError, match="is a database, but not a spool"):
            opened()
        assert query(tmp_path, "SELECT name FROM sqlite_master") == [("theirs",)]

    def test_a_folder_in_its_place_is_refused_by_name(self, opened, tmp_path):
        (tmp_path / "spool.sqlite").mkdir()
        with pytest.raises(SpoolError, match="cannot be used"):
            opened()

    def test_the_folder_is_made(self, opened, tmp_path):
        opened(name="a/b/spool.sqlite")
        assert (tmp_path / "a/b/spool.sqlite").exists()

    @pytest.mark.parametrize("damage", ["begin", "middle", "cut", "text"])
    def test_a_damaged_database_is_set_aside_and_a_new_one_begins(
        self, opened, counts, tmp_path, damage
    ):
        spool = opened()
        for i in range(50):
            spool.put(make_event(f"e{i}"), "north")
        spool.close()
        path = tmp_path / "spool.sqlite"
        whole = path.read_bytes()
        broken = {
            "begin": bytes(200) + whole[200:],
            "middle": whole[:8192] + os.urandom(30_000) + whole[38_192:],
            "cut": whole[: len(whole) // 2],
            "text": b"<html>no database" * 1000,
        }[damage]
        path.write_bytes(broken)
        for n in (1, 2):
            spool = opened()
            assert spool.waiting() == []
            assert spool.healthy
            spool.put(make_event("new"), "north")
            spool.close()
            assert (tmp_path / f"spool.sqlite.broken-{n}").read_bytes() == broken
            path.write_bytes(broken)
        assert counts.of("spools_set_aside", reason="damaged") == 2

    def test_damage_under_a_running_spool_stops_it_and_spares_what_can_be_read(
        self, opened, counts, tmp_path
    ):
        spool = opened(20 * MB)
        for i in range(600):
            spool.put(make_event(f"e{i}", visual_bytes=20_000), "north")
        path = tmp_path / "spool.sqlite"
        with path.open("r+b") as file:
            file.seek(5 * MB)
            file.write(os.urandom(3 * MB))
        read = [spool.alert(f"e{i}") is not None for i in range(600)]
        seen = [spool.visual(f"e{i}", "roi") is not None for i in range(600)]
        assert 0 < sum(read) + sum(seen) < 1200
        assert not spool.healthy
        assert "malformed" in (spool.problem or "")
        dropped = [counts.of(f"{what}_dropped", reason="damaged on the disk") for what in UNITS]
        assert dropped == [600 - sum(read), 600 - sum(seen)]
        with pytest.raises(SpoolError, match="keeps nothing now"):
            spool.put(make_event("new"), "north")
        spool.close()
        assert opened(20 * MB).waiting() == []
        assert counts.of("spools_set_aside", reason="damaged") == 1

    def test_its_files_are_for_its_user_alone(self, opened, tmp_path):
        spool = opened()
        spool.put(make_event("e"), "north")
        modes = {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert modes == {0o600}

    def test_somebody_who_looks_into_the_file_does_not_stop_it(self, opened, tmp_path):
        spool = opened()
        spool.put(make_event("first"), "north")
        visitor = sqlite3.connect(tmp_path / "spool.sqlite", isolation_level=None)
        try:
            visitor.execute("BEGIN")
            assert visitor.execute("SELECT count(*) FROM events").fetchone() == (1,)
            begun = time.monotonic()
            for i in range(200):
                spool.put(make_event(f"e{i}"), "north")
            # Waiting for the visitor at each of some thirty moves of the log would take longer.
            assert time.monotonic() - begun < 20
        finally:
            visitor.close()
        assert spool.healthy

    def test_another_process_that_looks_into_the_file_takes_no_log_away(self, opened, tmp_path):
        """SQLite deletes the log with the last connection, and tells by locks which one that is."""
        path = tmp_path / "spool.sqlite"
        program = f"""if True:
            import sqlite3
            visitor = sqlite3.connect({str(path)!r})
            print(visitor.execute("SELECT count(*) FROM events").fetchone()[0])
            visitor.close()
        """
        spool = opened()
        for number in (1, 2):
            spool.put(make_event(f"e{number}"), "north")
            seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            assert seen.stdout == f"{number}\n"
            assert path.with_name("spool.sqlite-wal").exists()

    def test_a_file_that_is_no_spool_is_refused_and_left_alone(self, opened, tmp_path):
        path = tmp_path / "spool.sqlite"
        path.write_text("node: n1\n")
        with pytest.raises(SpoolError, match=r"spool\.sqlite: is no spool but another file"):
            opened()
        assert [file.name for file in tmp_path.iterdir()] == ["spool.sqlite"]
        assert path.read_text() == "node: n1\n"

    def test_a_closed_spool_keeps_nothing(self, opened):
        spool = opened()
        spool.close()
        spool.close()
        with pytest.raises(SpoolError, match="is closed"):
            spool.put(make_event("e"), "north")


class TestManyThreads:
    def test_puts_of_many_threads_share_commits(self, opened):
        """64 at once take far less than 64 times one: they wait for the same flush of the disk."""
        spool = opened()
        commits = []
        database = spool._writer.tables.database
        commit = database.commit
        database.commit = lambda: (commits.append(1), commit())[1]  # type: ignore[method-assign]
        with ThreadPoolExecutor(64) as cameras:
            puts = [
                cameras.submit(spool.put, make_event(f"e{i}", visual_bytes=0), f"c{i}")
                for i in range(640)
            ]
        assert all(put.exception() is None for put in puts)
        assert len(ids(spool)) == 640
        assert len(commits) < 320

    def test_readers_and_writers_at_once_see_whole_events_only(self, opened):
        spool = opened()
        stop = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                alert, visual = spool.alert(f"e{n % 50}"), spool.visual(f"e{n % 50}", "roi")
                known = [make_event(f"e{n % 50}", revision=r) for r in range(3)]
                if alert not in [None, *(e.json for e in known)]:
                    wrong.append(alert)
                if visual not in [None, *(e.roi for e in known)]:
                    wrong.append(visual)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        with ThreadPoolExecutor(8) as cameras:
            for revision in range(3):
                for i in range(50):
                    cameras.submit(spool.put, make_event(f"e{i}", revision=revision), "c")
        stop.set()
        for reader in readers:
            reader.join()
        assert wrong == []
        assert spool.usage == Usage(spool.usage.bytes, 50, 50)


@pytest.mark.slow
def test_memory_is_flat_while_tens_of_thousands_of_events_come_and_go(tmp_path):
    sizes = soak(tmp_path, 20_000)
    assert max(sizes[1:]) - sizes[1] < 1_000_000
