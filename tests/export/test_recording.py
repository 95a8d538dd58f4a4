import json
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.draw import encode_jpeg
from dat_runtime.stage import Stage
from export.recording import main

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
    bundle_folder: Path, tmp_path: Path
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
    assert recording["answer"] == answers["c"]
    assert (recording["frame"], recording["max_pixels"]) == ([64, 48], 12544)
    (found,) = recording["detections"]
    assert found == {"bbox": [24.0, 20.0, 40.0, 28.0], "severity": "severe", "confidence": 0.9}
    assert (tmp_path / "demo" / "frame.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_no_frame_to_show_is_an_error_and_writes_nothing(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages(tmp_path, {"a": answer("severe", "severe")}, ("severe", "severe"))
    assert run(tmp_path, bundle_folder) == 1
    assert "no answer is compliant and right" in capsys.readouterr().err
    assert not list((tmp_path / "demo").iterdir())
