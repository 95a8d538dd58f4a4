"""Commands of the wheel under strace: no attempt at a connection, no file where none belongs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dat_runtime.demo.recording import read_recording

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "dat_runtime" / "demo"
CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,link,linkat,symlink,rename"

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


class Traced:
    """Runs programs in an empty home folder and an empty working folder, and sees what they try."""

    def __init__(self, folder: Path):
        self.home, self.work = folder / "home", folder / "work"
        self.home.mkdir()
        self.work.mkdir()
        self._trace = folder / "trace"

    def __call__(self, *arguments: str, peer: str = "no peer") -> list[str]:
        """What the program tried and should not have; empty when it was quiet.

        Args:
            peer: the port of this machine that it may talk to.
        """
        # Nothing of the caller's, above all no ORT_DISABLE_TELEMETRY and no CI.
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # -B is this process's alone
        strace = ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-e", f"trace={CALLS}"]
        command = [*strace, "-o", str(self._trace), sys.executable, "-B", *arguments]
        done = subprocess.run(
            command, cwd=self.work, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        calls = self._trace.read_text("utf-8", "replace").splitlines()
        told = f'sin_port=htons({peer}), sin_addr=inet_addr("127.0.0.1")'
        found = [call for call in attempts(calls, self.work) if told not in call]
        return found + [f"left {path}" for path in self.home.rglob("*")]


def attempts(calls: list[str], allowed: Path) -> Iterator[str]:
    """The calls that reach for another machine, or make a file outside of the allowed folder."""
    for call in calls:
        if "/nscd/socket" in call and "ENOENT" in call:
            continue  # libc looks for a cache of users and hosts that does not run here
        if re.search(r"\bconnect\(|\bsend.*sa_family=AF_INET", call):
            yield call
        elif re.search(r"O_CREAT|\b(creat|mkdir|mkdirat|link|linkat|symlink|rename)\(", call):
            path = path_of(call, allowed)
            if path is None or not (path.is_relative_to(allowed) or path == Path("/dev/null")):
                yield call


def path_of(call: str, folder: Path) -> Path | None:
    """The last path of a call; a relative one in the folder that the call names, else `folder`."""
    named = re.findall(r'(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', call)
    if not named:
        return None
    return Path(os.path.normpath(Path(named[-1][0] or folder, named[-1][1])))


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    (tmp_path / "traced").mkdir()
    return Traced(tmp_path / "traced")


@pytest.fixture
def cli(traced: Traced) -> list[str]:
    return ["-m", "dat_runtime.cli"]


def test_the_demo_is_quiet_and_writes_where_it_is_told(traced: Traced, cli: list[str]) -> None:
    assert traced(*cli, "demo", "--out", "shown") == []
    assert (traced.work / "shown" / "event.json").is_file()


def test_the_demo_of_a_bundle_is_quiet(traced: Traced, cli: list[str], bundle_folder: Path) -> None:
    frame = str(DEMO / "frame.jpg")
    assert traced(*cli, "demo", "--bundle", str(bundle_folder), "--frame", frame) == []


def test_verify_is_quiet(traced: Traced, cli: list[str], bundle_folder: Path) -> None:
    assert traced(*cli, "verify", str(bundle_folder)) == []


def test_plan_is_quiet(traced: Traced, cli: list[str]) -> None:
    assert traced(*cli, "plan", str(DEMO / "waiting.jsonl"), "--bandwidth", "50e3") == []


@pytest.fixture
def node(traced: Traced, bundle_folder: Path) -> str:
    """Settings of a node: a folder of pictures, a recorded answer, a receiver that is not there."""
    (traced.work / "pictures").mkdir()
    shutil.copy(DEMO / "frame.jpg", traced.work / "pictures")
    (traced.work / "answer.json").write_text(read_recording().answer)
    settings = {
        "node": "crossing-7",
        "cameras": [{"name": "north", "source": "pictures", "fps": 5}],
        "bundle": str(bundle_folder),
        "mllm": {"recorded": "answer.json"},
        "uplink": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool.sqlite", "max_bytes": 5_000_000, "alert_reserve_bytes": 100_000},
    }
    (traced.work / "node.yaml").write_text(json.dumps(settings))
    return "node.yaml"


def test_edge_check_asks_the_receiver_and_nobody_else(
    traced: Traced, cli: list[str], node: str
) -> None:
    assert traced(*cli, "edge", "check", node, peer="9") == []


def test_a_node_talks_to_its_receiver_and_nobody_else(
    traced: Traced, cli: list[str], node: str
) -> None:
    assert traced(*cli, "edge", "run", node, peer="9") == []
    assert list(traced.work.glob("spool*"))


def test_an_installation_from_a_folder_asks_nobody_and_writes_beside_the_bundle(
    traced: Traced, cli: list[str], node: str, bundle_folder: Path
) -> None:
    settings = json.loads((traced.work / node).read_text())
    # Its first bundle: the versions lie beside the name that node.yaml states.
    (traced.work / node).write_text(json.dumps(settings | {"bundle": "bundle"}))
    assert traced(*cli, "install", node, "--from", str(bundle_folder)) == []
    assert (traced.work / "bundle.versions" / "current" / "manifest.json").is_file()


def test_openvino_is_quiet(traced: Traced) -> None:
    pytest.importorskip("openvino")
    program = "from dat_runtime.edge.engines import silent_openvino as s; s().Core()"
    assert traced("-c", program) == []


@pytest.mark.parametrize(
    ("program", "tried"),
    [
        (
            "import socket\ntry: socket.getaddrinfo('a.invalid', 80)\nexcept OSError: pass",
            "connect",
        ),
        ("import socket as s; s.socket(2, 2).sendto(b'id', ('127.0.0.1', 9))", "AF_INET"),
        ("from pathlib import Path; (Path.home() / '.id').write_text('1')", "left"),
        ("import tempfile; tempfile.mkdtemp()", "mkdir"),
        ("open('../beside', 'w')", "beside"),
        ("import onnxruntime", "deviceid"),
    ],
    ids=["name", "datagram", "home", "temporary", "beside", "onnxruntime"],
)
def test_what_is_not_quiet_is_found(traced: Traced, program: str, tried: str) -> None:
    assert any(tried in call for call in traced("-c", program))
