"""Static INT8 of a gate, and what it costs."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.edge.engines import silent_openvino
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import DataError, ModelError
from dat_runtime.truth import Frame, read_split
from dat_runtime.types import Accident, Box, Detection, Severity, Size
from tests.conftest import constant_gate
from tests.train.detector.bright_gate import (
    SETTINGS,
    SIDE,
    bright_square_model,
    write_data,
    write_gate,
)
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


def operations(*ops: tuple[str, str]) -> Any:
    """A model of operations of a kind and name, as OpenVINO lists them."""

    def operation(kind: str, name: str) -> Any:
        return SimpleNamespace(get_type_name=lambda: kind, get_friendly_name=lambda: name)

    return SimpleNamespace(get_ordered_ops=lambda: [operation(*op) for op in ops])


def test_the_head_is_the_last_module_by_its_number() -> None:
    model = operations(("Convolution", "/model.9/cv2/Conv"), ("Add", "/model.22/Add"))
    assert int8.decoding(model) == r"/model\.22/(?!cv\d).*"
    with pytest.raises(ModelError) as refused:
        int8.decoding(operations(("Add", "/model.22/Add"), ("FakeQuantize", "x")))
    assert str(refused.value) == "the gate is quantized already: give the one in float"
    with pytest.raises(ModelError) as refused:
        int8.decoding(operations(("Add", "/22/Add")))
    told = "expected operations named /model.0/... as Ultralytics exports them"
    assert str(refused.value) == told


def test_a_picture_to_calibrate_on_is_what_the_network_is_given(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((20, 40, 3), (255, 51, 0), np.uint8))
    blob = int8.blob_of(tmp_path / "blue.png", SIDE)
    assert (blob.shape, blob.dtype) == ((1, 3, SIDE, SIDE), np.float32)
    assert blob[0, :, 32, 32] == pytest.approx([0, 0.2, 1])
    assert blob[0, :, 15, 32] == pytest.approx([114 / 255] * 3)


def test_nncf_is_asked_for_the_widest_ranges_and_leaves_the_heads_end_in_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of NNCF, which takes seconds to import."""
    ranges = SimpleNamespace(RangeEstimatorParametersSet=SimpleNamespace(MINMAX="min and max"))
    fake = SimpleNamespace(
        AdvancedQuantizationParameters=lambda **keys: ("advanced", keys),
        Dataset=lambda source, transform: (source, transform),
        IgnoredScope=lambda **keys: ("ignored", keys),
        QuantizationPreset=SimpleNamespace(MIXED="mixed"),
        quantize=lambda *given, **keys: (given, keys),
        quantization=SimpleNamespace(range_estimator=ranges),
    )
    monkeypatch.setitem(sys.modules, "nncf", fake)
    monkeypatch.setitem(sys.modules, "nncf.quantization", fake.quantization)
    monkeypatch.setitem(sys.modules, "nncf.quantization.range_estimator", ranges)
    for name in ("nncf", "torch.utils.cpp_extension"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
    data = write_data(tmp_path / "data", frames=3)
    frames = sorted((data / "images" / "val").iterdir())
    model = operations(("Add", "/model.7/Add"))
    (given, (source, transform)), keys = int8.quantize(model, frames, SIDE)
    assert (given, source) == (model, frames)
    assert (transform(frames[1]) == int8.blob_of(frames[1], SIDE)).all()
    assert keys == {
        "preset": "mixed",
        "subset_size": 3,
        "ignored_scope": ("ignored", {"patterns": [r"/model\.7/(?!cv\d).*"]}),
        "advanced_parameters": (
            "advanced",
            {"activations_range_estimator_params": "min and max"},
        ),
    }
    assert logging.getLogger("nncf").level == logging.WARNING
    assert logging.getLogger("torch.utils.cpp_extension").level == logging.ERROR


def test_what_int8_costs_is_told_by_accuracy_and_by_decisions(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    frames = read_split(data, "test")
    # Of every frame: the accident of every other one, and a part of it that is hardly seen.
    sure = write_gate(tmp_path / "float", constant_gate([[32, 32, 24, 24, 0, 0.9]]))
    doubting = write_gate(tmp_path / "int8", constant_gate([[32, 32, 24, 18, 0, 0.3]]))
    report = int8.cost(sure, doubting, data, frames)
    assert report == {
        "frames": 4,
        "float": {"mAP50": pytest.approx(0.5, abs=0.01), "mAP50-95": pytest.approx(0.5, abs=0.01)},
        "int8": {"mAP50": pytest.approx(0.5, abs=0.01), "mAP50-95": pytest.approx(0.3, abs=0.01)},
        "agreement": {
            "0.25": {"same": 1.0, "lost": 0, "won": 0},
            "0.8": {"same": 0.0, "lost": 4, "won": 0},
        },
        "largest_score_change": pytest.approx(0.6, abs=1e-6),
    }
    other = int8.cost(doubting, sure, data, frames)
    assert (other["float"], other["int8"]) == (report["int8"], report["float"])
    assert other["agreement"]["0.8"] == {"same": 0.0, "lost": 0, "won": 4}


def test_a_box_is_annotated_as_coco_has_it() -> None:
    box = Box(10, 20, 40, 35.5, Size(100, 100))
    assert int8.annotation(3, 2, box, 1) == {
        "id": 3, "image_id": 2, "category_id": 1, "bbox": [10, 20, 30, 15.5], "area": 465.0,
    }  # fmt: skip


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
    assert int8.accuracy(frames, [[], []], SETTINGS) == {"mAP50": 0.0, "mAP50-95": 0.0}
    with pytest.raises(DataError) as refused:
        int8.accuracy([frame()], [[]], SETTINGS)
    told = "no frame shows an accident, so accuracy cannot be measured"
    assert str(refused.value) == told


def test_each_class_is_measured_alone_and_nothing_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mixed = [frame((10, 10, 30, 30)), frame((10, 10, 30, 30), severity="moderate")]
    seen = [[detection(10, 0.9)], [detection(10, 0.8)]]
    # Severe: found first, then a false one. Moderate: never found.
    assert int8.accuracy(mixed, seen, SETTINGS)["mAP50"] == pytest.approx(0.5)
    seen = [[detection(10, 0.8)], [detection(10, 0.9)]]
    assert int8.accuracy(mixed, seen, SETTINGS)["mAP50"] == pytest.approx(0.25)
    seen = [[detection(10, 0.8, "moderate"), detection(50, 0.1)], [detection(10, 0.9, "moderate")]]
    assert int8.accuracy(mixed, seen, SETTINGS)["mAP50"] == pytest.approx(0.5)
    assert capsys.readouterr().out == ""


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
    int8.demand_small_loss({"float": {"mAP50": 0.02}, "int8": {"mAP50": 0.0}})
    int8.demand_small_loss({"float": {"mAP50": 0.5}, "int8": {"mAP50": 0.7}})
    with pytest.raises(ModelError) as refused:
        int8.demand_small_loss({"float": {"mAP50": 0.9}, "int8": {"mAP50": 0.87}})
    assert str(refused.value) == (
        "INT8 costs 0.030 of mAP50 on the test frames, more than 0.02: "
        '{"float": {"mAP50": 0.9}, "int8": {"mAP50": 0.87}}. Ship the float gate, or take the loss '
        "with --accept-loss"
    )
