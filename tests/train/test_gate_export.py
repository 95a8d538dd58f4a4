"""The gate in OpenVINO and INT8: held to the trained one, and taken wherever that is."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import pytest

from dat_runtime import manifest
from dat_runtime.edge.detector import YoloDetector
from eval import gating
from export.bundle import make_bundle
from tests.train.detector.bright_gate import METRICS, SETTINGS, write_data, write_gate
from tests.train.detector.tiny_gate import write_weights
from train import gate_export
from train.detector.onnx_export import MIN_IOU, export_onnx
from train.detector.ultralytics_run import quiet


def run(gate: Path, data: Path, form: str, out: Path, *wishes: str) -> int:
    arguments = ["--gate", gate, "--data", data, "--format", form, "--out", out, *wishes]
    return gate_export.main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_an_int8_gate_is_a_whole_gate_and_states_what_it_costs(
    tmp_path: Path, make_lora: Any, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    gate, data = write_gate(tmp_path / "full"), write_data(tmp_path / "data")
    out = tmp_path / "int8"
    assert run(gate, data, "int8", out) == 0, capsys.readouterr().err
    manifest.verify(out, kind="gate")
    image = cv2.imread(str(data / "images" / "test" / "1.png"))
    before, after = YoloDetector.load(gate).detect(image), YoloDetector.load(out).detect(image)
    assert after[0].severity == before[0].severity == "severe"
    assert after[0].confidence == pytest.approx(before[0].confidence, abs=0.05)
    assert after != before  # it is in 8 bits

    report = json.loads((out / "parity.json").read_text())
    assert (report["format"], report["frames"], report["calibration_frames"]) == ("int8", 4, 4)
    assert report["agreement"]["0.25"] == {"same": 1.0, "lost": 0, "won": 0}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test"] == report["int8"]
    assert metrics["train_seconds"] == 1.0

    gating.measure_gate(data, out, tmp_path)
    make_bundle(out, make_lora(), str(base_folder), tmp_path / "bundle")
    held = {p.name for p in (tmp_path / "bundle" / "gate").iterdir()}
    assert held == {"gate.json", "gate.xml", "gate.bin"}
    assert "`gate.xml` and `gate.bin`" in (tmp_path / "bundle" / "README.md").read_text()
    capsys.readouterr()
    assert run(gate, data, "int8", out) == 0
    assert "up to date" in capsys.readouterr().out


PARITY = {
    "frames": 32, "detections": 7, "lowest_iou": 0.99989, "largest_confidence_gap": 2e-6,
    "raw_confidences": 5_376, "largest_raw_gap": 3.4e-6,
}  # fmt: skip
COST = {
    "calibration_frames": 8,
    "frames": 40,
    "float": {"mAP50": 0.9, "mAP50-95": 0.5},
    "int8": {"mAP50": 0.8955, "mAP50-95": 0.4904},
    "agreement": {"0.25": {"same": 0.975, "lost": 1}, "0.8": {"same": 1.0, "lost": 0}},
}
TOLD = {
    "openvino": "[out] 7 detections and 5,376 confidences on 32 frames as the trained model's: "
    "IoU >= 0.9999, confidence within 3.4e-06\n",
    "int8": "[out] INT8 on 40 test frames: mAP50 0.900 -> 0.895, mAP50-95 0.500 -> 0.490; same "
    "trigger 97.5% at 0.25, 100.0% at 0.8\n",
}


@pytest.mark.parametrize(("form", "report"), [("openvino", PARITY), ("int8", COST)])
def test_an_exported_gate_states_its_recipe_and_its_report(
    form: str,
    report: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In place of the exports, which tests of their own run."""
    gate, data, out = write_gate(tmp_path / "full"), write_data(tmp_path / "data"), tmp_path / "out"
    given: list[Any] = []
    for name in ("export_openvino", "export_int8"):
        done = lambda *arguments, name=name: given.append((name, *arguments)) or report  # noqa: E731
        monkeypatch.setattr(gate_export, name, done)
    wishes = ["--accept-loss"] if form == "int8" else []
    capsys.readouterr()
    assert run(gate, data, form, out, *wishes) == 0
    told = capsys.readouterr().out
    assert told.endswith(TOLD[form])
    partial = out.with_name("out.partial")
    assert given == [
        ("export_int8", gate, data, partial, True)
        if form == "int8"
        else ("export_openvino", gate, data, partial)
    ]
    assert json.loads((out / "parity.json").read_text()) == {"format": form, **report}
    stated = manifest.read(out, "gate")
    assert stated.inputs == {"gate": manifest.digest(gate), "data": manifest.digest(data)}
    assert stated.config == {
        "format": form,
        "accept_loss": form == "int8",
        "versions": {name: version(name) for name in ("openvino", "nncf", "ultralytics")},
    }
    assert run(gate, data, form, out, *wishes) == 0
    assert "up to date" in capsys.readouterr().out
    assert len(given) == 1

    (gate / "gate.onnx").write_bytes(b"changed")
    assert run(gate, data, form, out, *wishes) == 1
    assert "gate.onnx changed" in capsys.readouterr().err
    assert run(data, data, form, out, *wishes) == 1
    assert run(write_gate(tmp_path / "other"), gate, form, out, *wishes) == 1


def test_a_float_gate_has_no_loss_to_accept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wishes = ["--gate", "g", "--data", "d", "--format", "openvino", "--accept-loss"]
    assert gate_export.main([*wishes, "--out", str(tmp_path / "out")]) == 1
    told = "--accept-loss is for int8: openvino has to answer as trained"
    assert told in capsys.readouterr().err


def test_parity_needs_the_trained_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate, data = write_gate(tmp_path / "full"), write_data(tmp_path / "data")
    assert run(gate, data, "openvino", tmp_path / "out") == 1
    assert "best.pt: is missing" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_an_openvino_gate_answers_as_the_trained_model_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with quiet(tmp_path / "log", tmp_path):
        weights = write_weights(tmp_path / "best.pt").read_bytes()
        others = write_weights(tmp_path / "other.pt", logit=-2).read_bytes()
        export_onnx(tmp_path / "best.pt", tmp_path, SETTINGS)
    model = (tmp_path / "gate.onnx").read_bytes()
    data, out = write_data(tmp_path / "data"), tmp_path / "openvino"
    assert run(write_gate(tmp_path / "full", model, weights), data, "openvino", out) == 0
    report = json.loads((out / "parity.json").read_text())
    assert report["detections"] > 4
    assert report["lowest_iou"] >= MIN_IOU
    assert json.loads((out / "metrics.json").read_text()) == METRICS
    assert {p.name for p in out.iterdir()} == {
        *("gate.json", "gate.xml", "gate.bin", "parity.json", "metrics.json", "manifest.json")
    }
    foreign = write_gate(tmp_path / "foreign", model, others)
    assert run(foreign, data, "openvino", tmp_path / "refused") == 1
    assert "differs from the trained one" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
