"""The spool where things break: kills, power cuts, full and failing disks; all of them real."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spool_faults import ROOT, Ledger, cuts, kills, make_event, traced
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import Spool


class TestKills:
    def test_no_acknowledged_event_is_lost_and_every_drop_is_counted(self, tmp_path):
        ledger, faults = kills(tmp_path, 20)
        assert faults == []
        assert len(ledger.put) > 20

    def test_a_lost_event_would_be_seen(self, tmp_path):
        ledger = Ledger()
        spool = Spool(tmp_path / "spool.sqlite", 10**6, 0, Counts())
        spool.put(make_event("kept"), "north")
        spool.put(make_event("changed", json=b"other"), "north")
        spool.close()
        for line in ("begin kept", "put kept", "begin lost", "put lost", "begin changed"):
            ledger.hear(line)
        assert ledger.faults(tmp_path / "spool.sqlite") == [
            "lost: lost",
            "not what was put: changed",
            "1 visuals gone, 0 counted",
        ]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("power")
    try:
        steps = traced(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine does not let strace trace ({error})")
    return folder, steps


class TestPowerCuts:
    def test_every_acknowledged_event_survives_whatever_the_disk_had_left_undone(self, trace):
        folder, steps = trace
        assert cuts(folder, steps, 40) == []

    def test_the_model_finds_losses_where_flushes_do_nothing(self, trace):
        folder, steps = trace
        faults = cuts(folder, steps, 12, flushes_work=False)
        assert any("lost" in fault for fault in faults)

    def test_the_trace_holds_flushes_of_log_database_and_folder(self, trace):
        _, steps = trace
        flushed = {Path(step.path).name for step in steps if step.what == "sync"}
        assert {"spool.sqlite", "spool.sqlite-wal", "traced"} <= flushed


PROLOGUE = """
import json, os, sys, time
from pathlib import Path
from benchmarks.spool_faults import make_event
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import Spool, SpoolError

folder = Path(sys.argv[1])
counts = Counts()
kept, visuals, refused = [], 0, 0
told = {}

def opened():
    return Spool(folder / "spool.sqlite", 4_000_000, 1_000_000, counts)

def put(id, priority=0.5, visual_bytes=30_000):
    global visuals, refused
    try:
        spool.put(make_event(id, priority, visual_bytes=visual_bytes), "north")
    except SpoolError as error:
        refused += 1
        told["refused"] = str(error)
        return False
    kept.append(id)
    visuals += visual_bytes > 0
    return True

def fill(name="filler"):
    with (folder / name).open("ab", 0) as file:
        for size in (65536, 4096, 512):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass

def tell(name):
    left = {w.pending.id: w.pending for w in spool.waiting()}
    dropped = {labels[0][1]: n for (what, labels), n in counts.snapshot().items()
               if what == "visuals_dropped"}
    told[name] = {
        "lost": [id for id in kept if id not in left or not left[id].json_sent and
                 spool.alert(id) != make_event(id).json],
        "visuals": sum(p.roi_bytes is not None for p in left.values()),
        "put": visuals, "dropped": dropped, "refused": refused, "healthy": spool.healthy,
        "reserve": (folder / "spool.sqlite.reserve").stat().st_size,
    }

spool = opened()
"""


def told_by(program: str, *before: str, folder: Path) -> dict[str, Any]:
    """What a program says in JSON on its last line, run by the words that stand before it."""
    command = [*before, sys.executable, "-c", PROLOGUE + program, str(folder)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


def in_a_small_disk(program: str, folder: Path, size: str = "6m") -> dict[str, Any]:
    """The same on a disk of its own, in memory; without privileges."""
    probe = ["unshare", "-Urmn", "mount", "-t", "tmpfs", "none", str(folder)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this machine does not let users mount (unshare -Urmn)")
    mount = f'mount -t tmpfs -o size={size} none "{folder}" && exec "$@"'
    return told_by(program, "unshare", "-Urmn", "sh", "-c", mount, "sh", folder=folder)


class TestAFullDisk:
    def test_alerts_still_fit_images_go_first_and_all_is_counted(self, tmp_path):
        told = in_a_small_disk(
            """
for i in range(40):
    put(f"before{i}", i % 10 / 10)
tell("before")
fill()
for i in range(300):
    put(f"during{i}")
tell("during")
(folder / "filler").unlink()
time.sleep(1.1)
put("after0")
put("after1")
tell("after")
spool.close()
counts = Counts()
spool = opened()
tell("again")
print(json.dumps(told))
""",
            tmp_path,
        )
        before, during, after = told["before"], told["during"], told["after"]
        assert before == {**before, "visuals": 40, "refused": 0, "reserve": 1_000_000}
        for moment in (during, after, told["again"]):
            assert moment["lost"] == []
            assert moment["healthy"]
            assert moment["refused"] == 0
            assert moment["put"] - moment["visuals"] == sum(moment["dropped"].values())
        assert during["reserve"] < 1_000_000
        # Images that were there stay as long as alerts find room beside them.
        assert during["dropped"] == {"the disk is full": 300 + 40 - during["visuals"]}
        # As soon as there is room again, so are the reserve and new images.
        assert after["reserve"] == 1_000_000
        assert after["visuals"] > during["visuals"]
        assert told["again"]["dropped"] == after["dropped"]

    def test_whoever_takes_what_is_given_up_makes_it_fail_by_name(self, tmp_path):
        told = in_a_small_disk(
            """
for i in range(20):
    put(f"before{i}")
for i in range(3000):
    fill()
    if not put(f"during{i}", visual_bytes=0):
        break
tell("during")
(folder / "filler").unlink()
time.sleep(1.1)
put("after")
put("after again")
tell("after")
print(json.dumps(told))
""",
            tmp_path,
        )
        # No alert was refused while an image was left to go, and none was lost.
        during = told["during"]
        assert during == {**during, "lost": [], "visuals": 0, "refused": 1, "healthy": False}
        assert during["dropped"] == {"the disk is full": 20}
        assert "disk is full" in told["refused"]
        assert told["after"]["lost"] == []
        assert told["after"]["healthy"]
        assert told["after"]["reserve"] == 1_000_000

    def test_a_node_starts_on_a_full_disk(self, tmp_path):
        told = in_a_small_disk(
            """
for i in range(20):
    put(f"before{i}")
if not os.fork():
    os._exit(0)
os.wait()
spool.close()
fill()
spool = opened()
for i in range(50):
    put(f"during{i}")
tell("during")
print(json.dumps(told))
""",
            tmp_path,
        )
        assert told["during"] == {**told["during"], "lost": [], "refused": 0, "healthy": True}


class TestAFailingDisk:
    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            ("fdatasync", "EIO", "disk I/O error"),
            ("pwrite64", "EIO", "disk I/O error"),
            ("pwrite64", "EROFS", "disk I/O error"),
        ],
    )
    def test_what_the_disk_did_not_take_is_not_acknowledged(self, tmp_path, call, error, words):
        if shutil.which("strace") is None:
            pytest.skip("strace is not installed")
        make(tmp_path).close()
        program = """
for i in range(30):
    put(f"e{i}", visual_bytes=0)
    if not spool.healthy:
        told["unhealthy"] = spool.problem
        spool.acknowledge("e0", "json")
tell("end")
told["sent"] = spool.alert("e0") is None
print(json.dumps(told))
sys.stdout.flush()
os._exit(0)
"""
        inject = f"inject={call}:error={error}:when=12..15"
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        told = told_by(program, *strace, folder=tmp_path)
        assert 0 < told["end"]["refused"] <= 4
        assert words in told["refused"]
        assert words in told["unhealthy"]
        assert told["sent"]
        assert told["end"]["healthy"]
        assert told["end"]["lost"] in ([], ["e0"])  # it was acknowledged meanwhile
        spool = make(tmp_path)
        try:
            waiting = {w.pending.id for w in spool.waiting()}
            assert len(waiting) >= 30 - told["end"]["refused"] - 1
        finally:
            spool.close()

    def test_a_disk_that_is_read_only_at_the_start_is_named(self, tmp_path):
        told = in_a_small_disk(
            """
put("before")
spool.close()
os.system(f"mount -o remount,ro {folder}")
try:
    opened()
except SpoolError as error:
    told["error"] = str(error)
print(json.dumps(told))
""",
            tmp_path,
        )
        assert told["error"].endswith("spool.sqlite.lock: cannot be used (Read-only file system)")


def make(folder: Path) -> Spool:
    return Spool(folder / "spool.sqlite", 4_000_000, 1_000_000, Counts())
