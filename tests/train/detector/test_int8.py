"""Static INT8 of a gate, and what it costs."""

from pathlib import Path
from typing import Any

import pytest

from dat_runtime.edge.engines import silent_openvino
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import DataError, ModelError
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Detection, Severity, Size
from tests.train.detector.bright_gate import SETTINGS, SIDE, bright_square_model, write_data
from train.detector import int8


@pytest.mark.slow
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


def frame(*boxes: tuple[float, ...], severity: Severity = "severe") -> Frame:
    size = Size(100, 100)
    accidents = tuple(Accident(Box(*corners, size), severity) for corners in boxes)
    return Frame("f", "f.png", size, accidents)


def detection(x: float, confidence: float, severity: Any = "severe") -> Detection:
    return Detection(Box(x, 10, x + 20, 30, Size(100, 100)), severity, confidence)


def test_accuracy_is_whole_for_all_boxes_and_falls_with_a_missed_and_a_moved_one() -> None:
    frames = [frame((10, 10, 30, 30), (60, 10, 80, 30)), frame()]
    whole = int8.accuracy(frames, [[detection(10, 0.9), detection(60, 0.8)], []], SETTINGS)
    assert whole["mAP50"] == pytest.approx(1)
    assert whole["mAP50-95"] == pytest.approx(1)
    missed = int8.accuracy(frames, [[detection(10, 0.9)], []], SETTINGS)
    assert missed["mAP50"] == pytest.approx(0.5, abs=0.01)
    moved = int8.accuracy(frames, [[detection(15, 0.9), detection(60, 0.8)], []], SETTINGS)
    assert moved["mAP50"] == pytest.approx(1)
    assert moved["mAP50-95"] < 0.8
    named = int8.accuracy(frames, [[detection(10, 0.9, "moderate")], []], SETTINGS)
    assert named["mAP50"] == int8.accuracy(frames, [[], []], SETTINGS)["mAP50"] == 0
    with pytest.raises(DataError, match="no frame shows an accident"):
        int8.accuracy([frame()], [[]], SETTINGS)


def test_a_gate_of_one_class_is_measured_without_severities() -> None:
    settings = GateSettings(classes=(None,), imgsz=SIDE)
    frames = [frame((10, 10, 30, 30)), frame((10, 10, 30, 30), severity="moderate")]
    seen = [[detection(10, 0.9, None)], [detection(10, 0.8, None)]]
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
