"""How long a weak node's answers take: the gate's alert, then the finished answer, over slow links.

    python -m benchmarks.offload_field --gate OUT/gate --codec OUT/codec --base BASE \\
        --adapter OUT/lora-boxed --frames OUT/data/images [--rates 6 50 250]

The real node (gate, encoder's process, spool, uplink), the real receiver with --finish and
`eval.serve --codec`, the link between them emulated for the kernel's own TCP. Each frame is shown
as a camera of its own; codes of all channels and WebP of quality 10 take turns as the only way that
the table allows. Delays run from capture to the receiver's commit, for frames whose answer came.
Ways are measured one after the other, and the model's answer takes several times as long while the
machine has other work: --link-only leaves the model out, and what is left is node, link and
receiver.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dat_runtime import files
from dat_runtime.codec_folder import read_description
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.offload import size_of
from dat_runtime.offload_table import Row, Table
from eval.uplink.emulated_link import RECEIVER, EmulatedLink, not_permitted
from export.live.processes import TOKEN, free_port, until, write_tokens

PORT = 8080
EVERY = {6: 8.0, 50: 3.0}
"""Seconds between two frames, by rate in kB/s: the link is idle again by then."""

WARM_UP = 2
"""Frames that are not counted: connections and graphs open."""

QUALITY = 10
WAYS = ("code", "webp")

AT_ONCE = {"count": 1, "severity": "severe", "level": 1, "score": 0.75, "summary": "A car."} | {
    "accidents": [{"bbox": [14, 14, 28, 28], "severity": "severe"}]
}
"""What is answered with --link-only: no gate says worse, so that it stands."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.way is not None:
        _node(args)
        return 0
    if args.answer_at is not None:
        _answer_at_once(args.answer_at)
    reason = not_permitted()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    print(" kB/s  sent   | frames  alert P50 / max     finished P50 / max, by the model")
    for rate in args.rates:
        with (
            tempfile.TemporaryDirectory() as folder,
            EmulatedLink([rate * 1e3], args.round_trip / 1e3) as link,
            _serving(args, link, Path(folder)) as finish,
        ):
            for way in WAYS:
                print(_row(rate, way, *_run(args, link, Path(folder) / way, finish, rate, way)))
                sys.stdout.flush()
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.offload_field", __doc__)
    add = parser.add_argument
    add("--gate", type=Path, required=True, help="folder of train.gate")
    add("--codec", type=Path, required=True, help="folder of train.offload")
    add("--base", type=Path, required=True, help="folder of the model")
    add("--adapter", type=Path, help="folder of train.lora")
    add("--frames", type=Path, required=True, help="folder of JPEG or PNG pictures")
    add("--max-pixels", type=int, default=12_544, help="of what the model sees (12544)")
    add("--number", type=int, default=12, help="of frames that count (12)")
    add("--rates", type=int, nargs="+", default=[6, 50, 250], help="kB/s")
    add("--round-trip", type=int, default=50, help="ms (50)")
    add("--link-only", action="store_true", help="a server that answers at once, and no model")
    add("--answer-at", type=int, help=argparse.SUPPRESS)
    add("--way", choices=WAYS, help=argparse.SUPPRESS)
    add("--rate", type=int, help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@contextmanager
def _serving(args: argparse.Namespace, link: EmulatedLink, folder: Path) -> Iterator[str]:
    """The model's server, at the receiver's end; its address."""
    import yaml

    keys: dict[str, Any] = {
        "model_name_or_path": str(args.base.resolve()),
        "template": "qwen2_vl",
        "infer_backend": "huggingface",
        "infer_dtype": "float32",
        "image_max_pixels": args.max_pixels,
        "image_min_pixels": 3136,
    }
    if args.adapter:
        keys["adapter_name_or_path"] = str(args.adapter.resolve())
    config = folder / "serve.yaml"
    config.write_text(yaml.safe_dump(keys))
    port, log = free_port(), folder / "serve.log"
    line = ["-m", "eval.serve", str(config), "--codec", str(args.codec), "--port", str(port)]
    if args.link_only:
        line = ["-m", "benchmarks.offload_field", *sys.argv[1:], "--answer-at", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(
            link.at_receiver(sys.executable, *line),
            stdout=out,
            stderr=out,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
    knock = link.at_receiver("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")

    def listens() -> bool:
        if server.poll() is not None:
            raise ConfigError(f"the model's server ended: {log.read_text()[-1000:]}")
        time.sleep(1.0)
        return subprocess.run(knock, stderr=subprocess.DEVNULL, check=False).returncode == 0

    try:
        until(listens, 900)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _answer_at_once(port: int) -> None:
    """The server of --link-only; it ends with its parent's signal."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            message = {"role": "assistant", "content": json.dumps(AT_ONCE)}
            body = json.dumps({"choices": [{"message": message}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()


def _run(
    args: argparse.Namespace, link: EmulatedLink, folder: Path, finish: str, rate: int, way: str
) -> tuple[int, list[tuple[float, float]]]:
    """Frames that were told, and for those that the model answered both delays in seconds."""
    folder.mkdir()
    store = folder / "events.sqlite"
    tokens = write_tokens(folder)
    listen = ("--listen", f"{RECEIVER}:{PORT}", "--store", f"sqlite:///{store}")
    cli = (sys.executable, "-m", "dat_runtime.cli", "receive", *listen, "--tokens", str(tokens))
    receiver = subprocess.Popen(
        link.at_receiver(*cli, "--finish", finish),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert receiver.stdout is not None
        receiver.stdout.readline()  # it listens
        this = (sys.executable, "-m", "benchmarks.offload_field", *sys.argv[1:])
        own = ("--way", way, "--rate", str(rate), "--folder", str(folder))
        ended = subprocess.run(link.at_node(*this, *own), stderr=subprocess.PIPE, check=False)
        if ended.returncode:
            raise ConfigError(f"the node ended: {ended.stderr.decode()[-1000:]}")
        deadline = time.monotonic() + 30
        while len(found := _delays(store)) < args.number and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        receiver.terminate()
        receiver.wait(10)
    return len(_delays(store, answered=False)), found


def _delays(store: Path, answered: bool = True) -> list[tuple[float, float]]:
    """From capture to the commit of alert and answer, of all cameras but the first ones."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT e.camera, e.captured_at, f.received_at, r.received_at, r.content"
            " FROM events e JOIN revisions f ON f.event = e.number AND f.revision = 0"
            " LEFT JOIN revisions r ON r.event = e.number AND r.revision = 1"
        ).fetchall()
    found = []
    for camera, captured, first, second, content in rows:
        if int(camera.removeprefix("c")) < WARM_UP:
            continue
        if not answered or (second and json.loads(content)["data"]["source"] == "mllm"):
            found.append((first - captured, (second or first) - captured))
    return found


def _row(rate: int, way: str, told: int, found: list[tuple[float, float]]) -> str:
    if not found:
        return f"{rate:5}  {way:6} | {told:6}  no answer of the model stood"
    alerts, answers = (sorted(column) for column in zip(*found, strict=True))
    middle = len(found) // 2
    return (
        f"{rate:5}  {way:6} | {told:6}  {alerts[middle]:6.2f} / {alerts[-1]:5.2f} s"
        f"    {answers[middle]:9.2f} / {answers[-1]:5.2f} s, {len(found)}"
    )


def _node(args: argparse.Namespace) -> None:
    """The node's end: shows the frames, and ends when all was sent."""
    from dat_runtime.edge.cameras.settings import CameraFrame
    from dat_runtime.edge.counts import Counts
    from dat_runtime.edge.detector import YoloDetector
    from dat_runtime.edge.node import Gate, Node
    from dat_runtime.edge.node_settings import NodeSettings, OffloadSettings, SpoolSettings
    from dat_runtime.edge.run import offloading_of
    from dat_runtime.edge.source import read_frame
    from dat_runtime.edge.spool import Spool
    from dat_runtime.edge.uplink import trust
    from dat_runtime.edge.uplink.settings import UplinkSettings
    from dat_runtime.edge.uplink.uplink import Uplink
    from dat_runtime.prompt import PROMPT_VERSION

    # The emulated link lies inside this machine, as loopback does: the token may go unencrypted.
    trust.is_loopback = lambda host: True
    table = args.folder / "table.json"
    files.write_json(table, _table(args).as_json())
    offload = OffloadSettings(args.codec, table, min_accuracy=0.5)
    token = args.folder / "token"
    assert TOKEN in token.read_text()
    way = UplinkSettings(f"http://{RECEIVER}:{PORT}", token, args.rate * 1e3)
    spool_settings = SpoolSettings(args.folder / "spool.sqlite")
    settings = NodeSettings("n1", args.gate, (), (way,), spool_settings, offload=offload)
    detector = YoloDetector.load(args.gate)
    gate = Gate(detector, detector.settings.routing, {"prompt": PROMPT_VERSION}, args.max_pixels)
    counts = Counts()
    spool = Spool(spool_settings.path, 100_000_000, 10_000_000, counts)
    uplink = Uplink((way,), spool, counts, "n1")
    offloading = offloading_of(offload, settings, spool, uplink, counts)

    def seen() -> Iterator[Path]:
        """Pictures that the gate would ask about."""
        for path in sorted(args.frames.rglob("*.[jp][pn]g")):
            score = max((d.confidence for d in detector.detect(read_frame(path))), default=0.0)
            if gate.routing.decide(score) == "ask":
                yield path

    class Shown:
        """A picture every few seconds, each of a camera of its own."""

        finished = False

        def __init__(self) -> None:
            self._left = [
                path for path, _ in zip(seen(), range(args.number + WARM_UP), strict=False)
            ]
            self._number, self._due = 0, time.monotonic() + 3.0  # the graphs are loaded

        def start(self) -> None:
            """There is nothing to start."""

        def stop(self) -> None:
            """There is nothing to stop."""

        def states(self) -> dict[str, str]:
            return {"c": "live"}

        def next(self, timeout: float) -> CameraFrame | None:
            if not self._left:
                self.finished = True
                return None
            if time.monotonic() < self._due:
                time.sleep(min(timeout, self._due - time.monotonic()))
                return None
            image = read_frame(self._left.pop(0))
            name, self._number = f"c{self._number}", self._number + 1
            self._due = time.monotonic() + EVERY.get(args.rate, 2.0)
            return CameraFrame(name, image, time.time(), time.monotonic())

    Node("n1", gate, Shown(), None, spool, uplink, counts, offloading).run()  # type: ignore[arg-type]


def _table(args: argparse.Namespace) -> Table:
    """A table in which the wanted way alone is accurate enough."""
    stated = read_description(args.codec)
    size = size_of(stated.grids[0], stated.channels[-1], stated.spatial)
    code = Row("code", "code", size, 0.0, offload_point=stated.block, channels=stated.channels[-1])
    rows = [Row("gate", "edge", 0, 0.0), replace(code, spatial=stated.spatial)]
    rows.append(Row("webp", "webp", 1_000, 0.0, quality=QUALITY))
    wanted = [replace(row, accuracy=1.0) if row.kind == args.way else row for row in rows]
    return Table("forced", "nothing", tuple(wanted), stated.id)


if __name__ == "__main__":
    raise SystemExit(main())
