"""The gate in OpenVINO and INT8: held to the trained one, and taken wherever that is."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.engines import silent_openvino
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import DataError, ModelError
from dat_runtime.stage import Stage
from dat_runtime.truth import Frame
from dat_runtime.types import SEVERITIES, Box, Detection, Size
from eval import gating
from export.bundle import make_bundle
from train import gate_export
from train.detector import int8
from train.detector.onnx_export import MIN_IOU, export_onnx
from train.gate import quiet

SIDE = 64
SETTINGS = GateSettings(classes=SEVERITIES, imgsz=SIDE)
METRICS = {
    "train_seconds": 1.0,
    "val": {"mAP50": 0.9, "mAP50-95": 0.5, "classes": {}},
    "test": {"mAP50": 0.9, "mAP50-95": 0.5, "classes": {}},
}


def bright_square_model() -> bytes:
    """An ONNX gate, named as Ultralytics names operations: brightness becomes confidence."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_node
    random = np.random.default_rng(0)
    seeing = random.normal(0, 0.002, (6, 3, 16, 16)).astype(np.float32)
    seeing[5] = 1 / seeing[5].size
    size = np.array([4, 4, 8, 8, 0.01, 1], np.float32).reshape(1, 6, 1)
    corner = np.array([32, 32, 24, 24, 0, 0], np.float32).reshape(1, 6, 1)
    constants = {
        "seeing": seeing,
        "mixing": np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1),
        "shape": np.array([1, 6, -1]),
        "pads": np.array([0, 0, 0, 0, 0, 84 - 16]),
        "size": size,
        "corner": corner,
    }
    nodes = [
        make("Conv", ["images", "seeing"], ["a"], name="/model.0/conv/Conv", strides=[16, 16]),
        make("Relu", ["a"], ["b"], name="/model.0/act/Relu"),
        make("Conv", ["b", "mixing"], ["c"], name="/model.1/cv2/Conv"),
        make("Reshape", ["c", "shape"], ["d"], name="/model.1/Reshape"),
        make("Mul", ["d", "size"], ["e"], name="/model.1/Mul"),
        make("Add", ["e", "corner"], ["f"], name="/model.1/Add"),
        make("Pad", ["f", "pads"], ["output0"], name="/model.1/Pad"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "bright",
        [onnx.helper.make_tensor_value_info("images", 1, [1, 3, SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("output0", 1, [1, 6, 84])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def write_gate(folder: Path, model: bytes | None = None, weights: bytes | None = None) -> Path:
    with Stage(folder, kind="gate", inputs={}, config={}) as partial:
        (partial / "gate.json").write_text(json.dumps(SETTINGS.as_json()))
        (partial / "gate.onnx").write_bytes(model or bright_square_model())
        (partial / "metrics.json").write_text(json.dumps(METRICS))
        if weights:
            (partial / "best.pt").write_bytes(weights)
    return folder


def write_data(folder: Path, frames: int = 4) -> Path:
    """A prepared set: dark frames, every other with a bright severe accident in the middle."""
    random = np.random.default_rng(0)
    with Stage(folder, kind="data", inputs={}, config={}) as partial:
        for split in ("train", "val", "test"):
            (partial / "images" / split).mkdir(parents=True)
            lines = []
            for i in range(frames):
                image = random.integers(0, 30, (SIDE, SIDE, 3), np.uint8)
                accidents = []
                if i % 2:
                    image[20:44, 20:44] = 240
                    accidents = [{"bbox": [20, 20, 44, 44], "severity": "severe"}]
                name = f"images/{split}/{i}.png"
                cv2.imwrite(str(partial / name), image)
                lines.append({"image_id": str(i), "image": name, "width": SIDE, "height": SIDE,
                              "accidents": accidents})  # fmt: skip
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (partial / f"truth_{split}.jsonl").write_text(text)
    return folder


def run(gate: Path, data: Path, form: str, out: Path) -> int:
    arguments = ["--gate", gate, "--data", data, "--format", form, "--out", out]
    return gate_export.main([str(argument) for argument in arguments])


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


def test_only_a_gate_in_float_is_quantized_and_its_head_decodes_in_float(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    data = write_data(tmp_path / "data")
    (tmp_path / "gate.onnx").write_bytes(bright_square_model())
    openvino = silent_openvino()
    model = openvino.Core().read_model(tmp_path / "gate.onnx")
    assert int8.decoding(model) == r"/model\.1/(?!cv\d).*"
    small = int8.quantize(model, sorted((data / "images" / "val").iterdir()), SIDE)
    kinds = {op.get_friendly_name(): op for op in small.get_ordered_ops()}
    quantized = {
        name
        for name, op in kinds.items()
        if any(i.get_source_output().get_node().get_type_name() == "FakeQuantize"
               for i in op.inputs())
    }  # fmt: skip
    assert any("/model.1/cv2/" in name for name in quantized)
    assert not {"/model.1/Mul", "/model.1/Add"} & quantized
    with pytest.raises(ModelError, match="quantized already"):
        int8.decoding(small)


def test_a_model_that_ultralytics_did_not_export_is_not_quantized(tmp_path: Path) -> None:
    (tmp_path / "gate.onnx").write_bytes(bright_square_model().replace(b"/model.", b"/other."))
    model = silent_openvino().Core().read_model(tmp_path / "gate.onnx")
    with pytest.raises(ModelError, match="as Ultralytics exports"):
        int8.decoding(model)


def frame(*boxes: tuple[float, ...], severity: str = "severe") -> Frame:
    return frame_of("f", "f.png", 100, 100, boxes, (severity,) * len(boxes))


def found(x: float, confidence: float, severity: Any = "severe") -> Detection:
    return Detection(Box(x, 10, x + 20, 30, Size(100, 100)), severity, confidence)


def test_accuracy_is_whole_for_all_boxes_and_falls_with_a_missed_and_a_moved_one() -> None:
    frames = [frame((10, 10, 30, 30), (60, 10, 80, 30)), frame()]
    whole = int8.accuracy(frames, [[found(10, 0.9), found(60, 0.8)], []], SETTINGS)
    assert whole["mAP50"] == pytest.approx(1)
    assert whole["mAP50-95"] == pytest.approx(1)
    missed = int8.accuracy(frames, [[found(10, 0.9)], []], SETTINGS)
    assert missed["mAP50"] == pytest.approx(0.5, abs=0.01)
    moved = int8.accuracy(frames, [[found(15, 0.9), found(60, 0.8)], []], SETTINGS)
    assert moved["mAP50"] == pytest.approx(1)
    assert moved["mAP50-95"] < 0.8
    named = int8.accuracy(frames, [[found(10, 0.9, "moderate")], []], SETTINGS)
    assert named["mAP50"] == int8.accuracy(frames, [[], []], SETTINGS)["mAP50"] == 0
    with pytest.raises(DataError, match="no frame shows an accident"):
        int8.accuracy([frame()], [[]], SETTINGS)


def test_a_gate_of_one_class_is_measured_without_severities() -> None:
    settings = GateSettings(classes=(None,), imgsz=SIDE)
    frames = [frame((10, 10, 30, 30)), frame((10, 10, 30, 30), severity="moderate")]
    seen = [[found(10, 0.9, None)], [found(10, 0.8, None)]]
    assert int8.accuracy(frames, seen, settings)["mAP50"] == pytest.approx(1)


def test_decisions_that_differ_are_counted_by_their_direction() -> None:
    counted = int8.agreement([True, True, False, False], [True, False, True, False])
    assert counted == {"same": 0.5, "lost": 1, "won": 1}


def test_calibration_frames_are_spread_over_all() -> None:
    frames = [Frame(str(i), "", Size(1, 1), ()) for i in range(10)]
    assert [f.image_id for f in int8.spread(frames, 4)] == ["0", "2", "5", "7"]
    assert int8.spread(frames, 99) == frames


def test_an_int8_gate_that_loses_much_is_refused() -> None:
    int8.demand_small_loss({"float": {"mAP50": 0.9}, "int8": {"mAP50": 0.881}})
    with pytest.raises(ModelError, match=r"costs 0\.030 of mAP50.*--accept-loss"):
        int8.demand_small_loss({"float": {"mAP50": 0.9}, "int8": {"mAP50": 0.87}})


def test_a_float_gate_has_no_loss_to_accept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wishes = ["--gate", "g", "--data", "d", "--format", "openvino", "--accept-loss"]
    assert gate_export.main([*wishes, "--out", str(tmp_path / "out")]) == 1
    assert "--accept-loss is for int8" in capsys.readouterr().err


def test_parity_needs_the_trained_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate, data = write_gate(tmp_path / "full"), write_data(tmp_path / "data")
    assert run(gate, data, "openvino", tmp_path / "out") == 1
    assert "best.pt: is missing" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def random_yolo(path: Path, seed: int) -> bytes:
    """Weights of a YOLO12n that nobody trained, with scores high enough to be seen."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    yolo = YOLO("yolo12n.yaml", task="detect")
    yolo.model = DetectionModel("yolo12n.yaml", nc=2, verbose=False)
    with torch.no_grad():
        # Without statistics in its normalisation an untrained network answers a constant.
        yolo.model.train()
        for _ in range(8):
            yolo.model(torch.rand(8, 3, SIDE, SIDE))
        yolo.model.eval()
        for branch in yolo.model.model[-1].cv3:
            branch[-1].bias += 3.0
    yolo.save(path)
    return path.read_bytes()


@pytest.mark.slow
def test_an_openvino_gate_answers_as_the_trained_model_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with quiet(tmp_path / "log", tmp_path):
        weights = random_yolo(tmp_path / "best.pt", 0)
        others = random_yolo(tmp_path / "other.pt", 1)
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
