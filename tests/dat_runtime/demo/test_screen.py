import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.batch import read_batch
from dat_runtime.cli import main
from dat_runtime.demo.recording import FRAME, WAITING, read_recording
from dat_runtime.demo.screen import WIDTH
from dat_runtime.draw import encode_jpeg, size_of
from dat_runtime.edge.source import read_frame
from dat_runtime.event import event_of
from dat_runtime.gate import kept, trigger_score
from dat_runtime.manifest import NAME, digest
from dat_runtime.schema import check

STEPS = ["1 gate", "2 boxed", "3 MLLM", "4 check", "5 priority", "6 event", "7 plan"]


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["demo", *map(str, arguments)]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    (tmp_path / "frame.jpg").write_bytes(encode_jpeg(image))
    return tmp_path / "frame.jpg"


def test_what_is_packaged_fits_together() -> None:
    recording, image = read_recording(), read_frame(FRAME)
    assert size_of(image) == recording.frame
    assert FRAME.stat().st_size < 60_000
    assert trigger_score(recording.detections) >= recording.threshold
    verdict = check(recording.answer, recording.frame.width, recording.frame.height)
    assert verdict.assessment is not None
    event = event_of(
        "e",
        image,
        kept(recording.detections, recording.threshold),
        recording.answer,
        recording.frame,
    )
    assert event.source == "mllm"
    assert len(read_batch(WAITING)) == 3


def test_the_whole_way_is_told_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys).splitlines()
    assert len(lines) <= 36
    assert max(map(len, lines)) <= WIDTH
    assert [s for s in STEPS if not any(line.startswith(s) for line in lines)] == []
    assert "recorded" in lines[1] + lines[2]


def test_a_scarce_link_gets_alerts_first_and_fewer_visuals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ample, scarce = told(capsys, "--bandwidth", 200_000), told(capsys, "--bandwidth", 20_000)
    assert (ample.count(" JSON   "), scarce.count(" JSON   ")) == (4, 4)
    assert ample.count(" ROI   ") > scarce.count(" ROI   ")
    assert "not yet: visual of" in scarce
    assert "not yet" not in ample


def test_the_recorded_demo_loads_no_model_runtime() -> None:
    code = "import sys; from dat_runtime.cli import main; main(['demo']); "
    code += "print(sorted({'onnxruntime', 'httpx', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_a_bundle_s_gate_looks_at_a_frame_of_one_s_own(
    bundle_folder: Path, frame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    text = told(capsys, "--bundle", bundle_folder, "--frame", frame, "--out", out)
    assert "severe 0.90; highest 0.90 >= 0.25" in text
    assert "none given" in text
    assert "the event is made from the gate's detections" in " ".join(text.split())
    assert "recorded" not in text
    alert = json.loads((out / "alert.json").read_text())
    assert (alert["data"]["source"], alert["data"]["answer"]["count"]) == ("gate", 1)
    (waiting,) = read_batch(out / "event.json")  # what `dat-runtime plan` takes
    assert (waiting.id, round(waiting.priority, 3)) == (alert["id"], alert["data"]["priority"])
    assert waiting.box_bytes == (out / "boxed.jpg").stat().st_size
    assert waiting.roi_bytes == (out / "roi.jpg").stat().st_size
    boxed = cv2.imread(str(out / "boxed.jpg"))
    assert boxed.shape == (90, 160, 3)
    assert (out / "roi.jpg").stat().st_size > 0


def test_a_bundle_without_a_frame_looks_at_the_packaged_one(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "--bundle", bundle_folder)
    assert "at 112 x 112" in text
    assert "fits the schema" in text


def test_a_given_answer_counts_pixels_of_the_image_that_was_sent(
    bundle_folder: Path, frame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {
        "count": 1,
        "severity": "severe",
        "level": 1,
        "score": 0.6,
        "accidents": [{"bbox": [0, 0, 140, 84], "severity": "severe"}],
        "summary": "",
    }
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    out = tmp_path / "out"
    told(
        capsys,
        *("--bundle", bundle_folder, "--frame", frame),
        *("--answer", tmp_path / "answer.json", "--out", out),
    )
    event = json.loads((out / "alert.json").read_text())
    assert (event["data"]["source"], event["data"]["priority"]) == ("mllm", 0.8)
    assert event["data"]["answer"]["accidents"][0]["bbox"] == [0, 0, 160, 90]


def test_a_compliant_answer_that_says_less_than_a_sure_gate_is_said_to_be_a_conflict(
    bundle_folder: Path, frame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"count": 0, "severity": "none", "level": 0, "score": 0.1, "accidents": []}
    (tmp_path / "answer.json").write_text(json.dumps(none | {"summary": ""}))
    files = ("--bundle", bundle_folder, "--frame", frame, "--answer", tmp_path / "answer.json")
    text = " ".join(told(capsys, *files).split())
    assert "compliant, but it says less than a sure gate saw" in text


def test_an_answer_that_breaks_the_rules_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answer.txt").write_text("I see an accident. " * 50)
    text = told(capsys, "--answer", tmp_path / "answer.txt")
    told_in_one_line = " ".join(text.split())
    assert (
        "refused, the event is made from the gate's detections instead: parse:" in told_in_one_line
    )
    assert max(map(len, text.splitlines())) <= WIDTH


class Completions(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        recording = read_recording()
        content = json.dumps({"choices": [{"message": {"content": recording.answer}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_the_terminal_obeys_nothing_in_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.txt"
    answer.write_text('\x1b[2J {"\x1b]0;owned\x07": 1}', "utf-8")
    text = told(capsys, "--answer", str(answer))
    assert r"\x1b[2J" in text
    assert text.replace("\n", "").isprintable()


def test_an_endpoint_answers_and_its_absence_is_survived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with HTTPServer(("127.0.0.1", 0), Completions) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        assert "fits the schema" in told(capsys, "--endpoint", url, "--model", "dat")
        server.shutdown()
    text = told(capsys, "--endpoint", url, "--model", "dat")
    assert "no answer: " in text
    assert "7 plan" in text


def test_a_frame_below_the_threshold_stops_at_the_gate(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, listed = bundle_folder / "gate" / "gate.json", bundle_folder / NAME
    before = digest(settings)
    value = json.loads(settings.read_text()) | {"low": 0.95}
    settings.write_text(json.dumps(value))
    listed.write_text(listed.read_text().replace(before, digest(settings)))
    text = told(capsys, "--bundle", bundle_folder, "--out", tmp_path / "out")
    assert "highest 0.90 < 0.95: the frame is dropped here" in " ".join(text.split())
    assert "2 boxed" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frame", "x.jpg"], "--frame needs --bundle"),
        (["--answer", "x", "--endpoint", "http://x", "--model", "m"], "exclude each other"),
        (["--endpoint", "http://x"], "belong together"),
        (["--endpoint", "x", "--model", "m"], "begins with http"),
        (["--answer", "/nowhere/x.json"], "/nowhere/x.json: cannot be read"),
        (["--bandwidth", "-5"], "bandwidth"),
        (["--bundle", "/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in told(capsys, *arguments, status=1)


def test_an_endpoint_that_is_no_address_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    error = told(capsys, "--endpoint", "http://host:port/v1", "--model", "dat", status=1)
    assert "error: an endpoint is an address such as" in error


def test_a_file_is_no_folder_to_save_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("kept")
    assert f"--out {tmp_path}/file: cannot be" in told(capsys, "--out", tmp_path / "file", status=1)
    assert (tmp_path / "file").read_text() == "kept"
