import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.draw import encode_jpeg
from dat_runtime.errors import DataError
from dat_runtime.stage import Stage
from dat_runtime.types import Box, Detection, Size
from export.recording import Answered, _shows_well, answered, main, record

BOXES = [[10, 10, 30, 30], [40, 10, 60, 30]]


def answer(*severities: str) -> str:
    severe = "severe" in severities
    value = {
        "count": len(severities),
        "severity": "severe" if severe else "moderate",
        "level": int(severe),
        "score": 0.7 if severe else 0.2,
        "accidents": [{"bbox": b, "severity": s} for b, s in zip(BOXES, severities, strict=False)],
        "summary": "",
    }
    return json.dumps(value)


def stages(folder: Path, answers: dict[str, str], truth: tuple[str, ...]) -> None:
    """OUT/data and OUT/predictions with one 64 x 48 frame per answer."""
    with Stage(folder / "data", kind="data", inputs={}, config={}) as data:
        rows = []
        for name in answers:
            (data / f"{name}.jpg").write_bytes(encode_jpeg(np.zeros((48, 64, 3), np.uint8)))
            accidents = [{"bbox": b, "severity": s} for b, s in zip(BOXES, truth, strict=True)]
            row = {"image_id": name, "image": f"{name}.jpg", "width": 64, "height": 48}
            rows.append(json.dumps(row | {"accidents": accidents}))
        (data / "truth_test.jsonl").write_text("\n".join(rows))
    with Stage(folder / "predictions", kind="predictions", inputs={}, config={}) as predictions:
        lines = [json.dumps({"image_id": k, "text": v}) for k, v in answers.items()]
        (predictions / "predictions.jsonl").write_text("\n".join(lines))


def run(folder: Path, bundle: Path) -> int:
    (folder / "demo").mkdir()
    return main(
        [
            *("--bundle", str(bundle), "--data", str(folder / "data")),
            *("--predictions", str(folder / "predictions"), "--out", str(folder / "demo")),
        ]
    )


def test_the_first_frame_with_a_right_answer_is_recorded(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "a": "I see nothing",
        "b": answer("severe"),
        "d": answer("severe", "moderate"),
        "c": answer("moderate", "severe"),
    }
    stages(tmp_path, answers, ("severe", "moderate"))
    assert run(tmp_path, bundle_folder) == 0
    recording = json.loads((tmp_path / "demo" / "recording.json").read_text())
    found = {"bbox": [24.0, 20.0, 40.0, 28.0], "severity": "severe", "confidence": 0.9}
    assert recording == {
        "by": "the gate and the adapter of `make smoke`, on a test frame that they read well",
        "frame": [64, 48],
        "threshold": 0.25,
        "detections": [found],
        "max_pixels": 12544,
        "answer": answers["c"],
    }
    frame = (tmp_path / "data" / "c.jpg").read_bytes()
    assert (tmp_path / "demo" / "frame.jpg").read_bytes() == frame
    assert capsys.readouterr().out.endswith(f"[recording] c.jpg in {tmp_path}/demo\n")


def test_no_frame_to_show_is_an_error_and_writes_nothing(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages(tmp_path, {"a": answer("severe", "severe")}, ("severe", "severe"))
    assert run(tmp_path, bundle_folder) == 1
    words = "no answer is compliant and right on a frame to show"
    assert capsys.readouterr().err == f"error: {tmp_path}/predictions: {words}\n"
    assert not list((tmp_path / "demo").iterdir())


def frame(folder: Path, text: str, *truth: str, size: int = 1000) -> Answered:
    (folder / "a.jpg").write_bytes(bytes(size))
    return Answered(folder / "a.jpg", Size(64, 48), truth, text)


BOTH = ("moderate", "severe")


@pytest.mark.parametrize(
    ("text", "truth", "size", "shows"),
    [
        (answer("severe", "moderate"), BOTH, 59_999, True),
        (answer("severe", "moderate"), BOTH, 60_000, False),
        (answer("severe", "severe"), BOTH, 9, False),
        (answer("severe"), BOTH, 9, False),
        (answer("severe", "moderate"), ("severe", "severe"), 9, False),
        (answer("severe", "severe"), ("severe", "severe"), 9, False),
        (answer("severe", "moderate"), ("moderate",), 9, False),
        (answer("severe", "moderate").replace("0.7", "0.1"), BOTH, 9, False),
        (answer("severe", "moderate").replace("[10, 10, 30", "[10, 10, 65"), BOTH, 9, False),
        ("no", BOTH, 9, False),
    ],
)
def test_a_frame_to_show_is_small_and_read_right(
    tmp_path: Path, text: str, truth: tuple[str, ...], size: int, shows: bool
) -> None:
    assert _shows_well(frame(tmp_path, text, *truth, size=size)) is shows


def test_frames_that_were_answered_come_by_name(tmp_path: Path) -> None:
    stages(tmp_path, {"b": "1", "a": "2", "c": "3"}, BOTH)
    path = tmp_path / "predictions" / "predictions.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:2]))
    assert list(answered(tmp_path / "data", tmp_path / "predictions")) == [
        Answered(tmp_path / "data" / f"{name}.jpg", Size(64, 48), BOTH, text)
        for name, text in (("a", "2"), ("b", "1"))
    ]
    path.write_text(lines[0] + '\n{"image_id": 7, "text": ""}')
    words = f"^{path}:2: image_id is 7, expected a text$"
    with pytest.raises(DataError, match=words):
        list(answered(tmp_path / "data", tmp_path / "predictions"))


def test_edges_and_confidences_are_rounded(tmp_path: Path) -> None:
    box = Box(1.04, 2.06, 30.15, 40.0, Size(64, 48))
    found = [Detection(box, "severe", 0.12349)]
    detector = SimpleNamespace(detect=lambda _: found, settings=SimpleNamespace(keep=0.3))
    chosen = frame(tmp_path, "text")
    chosen.path.write_bytes(encode_jpeg(np.zeros((48, 64, 3), np.uint8)))
    bundle: Any = SimpleNamespace(detector=detector, max_pixels=99)
    record(chosen, bundle, tmp_path)
    told = json.loads((tmp_path / "recording.json").read_text())
    assert told["detections"] == [
        {"bbox": [1.0, 2.1, 30.1, 40.0], "severity": "severe", "confidence": 0.123}
    ]
    assert (told["threshold"], told["max_pixels"]) == (0.3, 99)


def test_the_predictions_are_verified_and_every_option_is_needed(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages(tmp_path, {"a": answer(*BOTH)}, BOTH)
    (tmp_path / "predictions" / "more").touch()
    assert run(tmp_path, bundle_folder) == 1
    assert "more is not listed in manifest.json" in capsys.readouterr().err
    options = ["--bundle", "b", "--data", "d", "--predictions", "p", "--out", "o"]
    for index in range(0, 8, 2):
        with pytest.raises(SystemExit):
            main(options[:index] + options[index + 2 :])
