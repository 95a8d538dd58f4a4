import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.batch import read_batch
from dat_runtime.cascade import Band, Logistic, Routing
from dat_runtime.cli import main
from dat_runtime.demo import screen
from dat_runtime.demo.recording import FRAME, WAITING, read_recording
from dat_runtime.demo.screen import WIDTH, Choices, Gate, _gate_words, show
from dat_runtime.draw import encode_jpeg, size_of
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.source import read_frame
from dat_runtime.event import event_of
from dat_runtime.gate import kept, trigger_score
from dat_runtime.manifest import NAME, digest
from dat_runtime.schema import check
from dat_runtime.types import Box, Detection, Size

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
    answer = told_in_one_line.partition("3 MLLM Eq.3 ")[2].partition(" 4 check ")[0]
    assert answer == "I see an accident. " * 15 + "..."


def test_a_model_without_an_address_is_not_asked() -> None:
    lines = list(show(Choices(model="dat")))
    assert any("fits the schema" in line for line in lines)


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


def change_gate(bundle: Path, **changes: float) -> None:
    """Change fields of gate.json, and its digest in the manifest."""
    settings, listed = bundle / "gate" / "gate.json", bundle / NAME
    before = digest(settings)
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes))
    listed.write_text(listed.read_text().replace(before, digest(settings)))


def test_a_frame_below_the_threshold_stops_at_the_gate(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_gate(bundle_folder, low=0.95)
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


SCREEN = """\
DAT: from one camera frame to what the uplink carries
frame             640 x 640, a rendered scene from the package; recorded: detections and
                  answer, from the scene's labels, no model
1 gate      Eq.1  (recorded) severe 1.00, moderate 1.00; highest 1.00 >= 0.25: the frame
                  goes on
2 boxed     Eq.2  2 boxes drawn on the frame at 644 x 644, ###.# kB PNG for the MLLM; the
                  prompt lists them too
3 MLLM      Eq.3  {"count": 2, "severity": "severe", "level": 1, "score": 0.75,
                  "accidents": [{"bbox": [327, 174, 487, 279], "severity": "severe"},
                  {"bbox": [207, 367, 474, 480], "severity": "moderate"}], "summary":
                  "Accidents: 1 severe, 1 moderate."}
4 check     Eq.4  JSON, fits the schema, no contradiction, every number in bounds
5 priority  Eq.7  S = 0.5 * level 1 + 0.5 * score 0.75 = 0.875   (severe)
6 event           up to three units for the uplink: JSON #.# kB, ROI #.# kB, boxed image
                  ##.# kB
7 plan      Eq.12 Algorithm 1, 1 s ahead, with three waiting events (S of ring road 0.24,
                  tunnel 0.93, old bridge 0.12): alerts by S per byte, then each one's
                  smaller visual, if done within 1.5 s
  at 200 kB/s                                 at 20 kB/s
   #.### s  tunnel      JSON          #.# kB   #.### s  tunnel      JSON          #.# kB
   #.### s  this-frame  JSON          #.# kB   #.### s  this-frame  JSON          #.# kB
   #.### s  ring road   JSON          #.# kB   #.### s  ring road   JSON          #.# kB
   #.### s  old bridge  JSON          #.# kB   #.### s  old bridge  JSON          #.# kB
   #.### s  this-frame  ROI           #.# kB   #.### s  this-frame  ROI           #.# kB
   #.### s  tunnel      ROI          ##.# kB   #.### s  tunnel      ROI          ##.# kB
   #.### s  ring road   ROI           #.# kB  not yet: visual of ring road, old bridge
   #.### s  old bridge  ROI           #.# kB
"""
"""The recorded demo, without the numbers that follow from what an encoder makes of a picture."""


def test_the_screen_is_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    made = re.compile(r"\d+\.\d kB|\d\.\d{3} s")
    assert made.sub(lambda match: re.sub(r"\d", "#", match[0]), told(capsys)) == SCREEN


def test_sizes_and_times_are_those_of_the_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a" / "b"
    told(capsys, "--out", out)
    text = told(capsys, "--bandwidth", 100_000, "--out", out)
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    assert sorted(sizes) == ["alert.json", "boxed.jpg", "event.json", "roi.jpg"]
    first = text.partition("6 event")[2].split("kB")[0]
    assert float(first.split()[-1]) == round((sizes["alert.json"] - 1) / 1000, 1)
    assert f"ROI {sizes['roi.jpg'] / 1000:.1f} kB" in " ".join(text.split())
    sent = [line.split() for line in text.splitlines() if " s  " in line]
    assert [line[0] for line in sent[:1]] == ["0.005"]  # 512 bytes of "tunnel"
    last = 512 + 391 + 305 + 12_100 + 9_800 + 6_200 + sizes["alert.json"] - 1 + sizes["roi.jpg"]
    assert float(sent[-1][0]) == round(last / 100_000, 3)
    assert text.splitlines()[-1] == f"saved in {out}: boxed.jpg, alert.json, event.json, roi.jpg"
    assert json.loads((out / "event.json").read_text())["id"] == "this-frame"
    assert (out / "event.json").read_bytes().endswith(b"}\n")


def routed(routing: Routing, *scores: float) -> Gate:
    box = Box(0, 0, 9, 9, Size(10, 10))
    found = tuple(Detection(box, "severe", score) for score in scores)
    return Gate("m.onnx", found, routing, 112 * 112)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (
            routed(Routing(0.1, Band(0.256, None)), 0.25, 0.05),
            "(m.onnx) highest 0.25 < 0.256: the frame is dropped here; the MLLM and the uplink"
            " never hear of it",
        ),
        (
            routed(Routing(0.1, Band(0.25, None)), 0.25, 0.1, 0.05),
            "(m.onnx) severe 0.25, severe 0.10; highest 0.25 >= 0.25: the frame goes on",
        ),
        (
            routed(Routing(0.5, Band(0.0, 0.25), Logistic(1.0)), 0.4),
            "(m.onnx) no box; highest 0.40, as a probability 0.40 >= 0: the frame goes on",
        ),
        (
            routed(Routing(0.1, Band(0.1, 0.8), Logistic(2.0)), 0.75),
            "(m.onnx) severe 0.75; highest 0.75, as a probability 0.90 >= 0.8: sure enough, the"
            " gate answers itself and the MLLM is not asked",
        ),
    ],
)
def test_what_the_gate_decides_is_said_with_its_reason(gate: Gate, words: str) -> None:
    assert _gate_words(gate) == words


def test_a_gate_that_is_sure_answers_itself(
    bundle_folder: Path, frame: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_gate(bundle_folder, low=0.05, high=0.5)
    text = told(capsys, "--bundle", bundle_folder, "--frame", frame)
    assert "3 MLLM" not in text
    assert "nothing to check: the event is made from the gate's detections" in text
    assert "7 plan" in text


def test_a_bundle_that_is_not_fit_for_use_says_so(
    bundle_folder: Path, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = replace(open_bundle(bundle_folder), not_fit="made for tests")
    monkeypatch.setattr(screen, "open_bundle", {bundle_folder: bundle}.__getitem__)
    lines = list(show(Choices(bundle=bundle_folder, frame=frame)))
    assert lines[1] == "frame             160 x 90, frame.jpg"
    assert lines[2] == "bundle            NOT FIT FOR USE: made for tests"


def test_alerts_that_the_link_cannot_carry_are_named_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = told(capsys, "--bandwidth", 600).splitlines()
    assert lines[-3].startswith("   0.853 s  tunnel      JSON")
    assert lines[-2:] == [
        "  not yet: alert of this-frame, ring road...",
        "  not yet: visual of this-frame, ring roa...",
    ]


def test_words_that_are_cut_say_so() -> None:
    assert screen._cut("12345678", 8) == "12345678"
    assert screen._cut("123456789", 8) == "12345..."
