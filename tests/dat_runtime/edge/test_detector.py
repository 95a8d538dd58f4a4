import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.cascade import (
    Band,
    Budget,
    Calibration,
    Costs,
    Isotonic,
    Logistic,
    Routing,
    Signal,
)
from dat_runtime.edge import detector as module
from dat_runtime.edge.detector import (
    MAX_DETECTIONS,
    Letterbox,
    YoloDetector,
    suppress,
)
from dat_runtime.edge.engines import Tensor
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import SEVERITIES, Size

SETTINGS = GateSettings(classes=SEVERITIES, imgsz=64)
ANCHORS = 64 + 16 + 4


class FakeEngine:
    """Answers every picture with the same rows `(cx, cy, w, h, moderate, severe)`."""

    inputs = (Tensor("float32", (1, 3, 64, 64)),)
    outputs = (Tensor("float32", (1, 6, ANCHORS)),)

    def __init__(self, rows: list[list[float]]):
        self.rows = rows
        self.seen: list[np.ndarray] = []

    def run(self, blob: np.ndarray) -> np.ndarray:
        self.seen.append(blob)
        answer = np.zeros((1, 6, ANCHORS), np.float32)
        answer[0, :, : len(self.rows)] = np.array(self.rows, np.float32).T
        return answer


def detect(rows: list[list[float]], width: int, height: int):
    image = np.zeros((height, width, 3), np.uint8)
    return YoloDetector(FakeEngine(rows), SETTINGS).detect(image)


def constant_model(value: float, shape: tuple[int, ...] = (1, 6, ANCHORS)) -> bytes:
    """An ONNX model with the gate's input that answers one constant."""
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.full(shape, value, np.float32))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["output0"], value=tensor)],
        "constant",
        [onnx.helper.make_tensor_value_info("images", 1, [1, 3, 64, 64])],
        [onnx.helper.make_tensor_value_info("output0", 1, list(shape))],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def logistic(**changes: Any) -> dict[str, Any]:
    return {"method": "logistic", "weight": 1.0, "bias": 0.0, "signals": {}, **changes}


def isotonic(scores: list[float], probabilities: list[float]) -> dict[str, Any]:
    return {"method": "isotonic", "scores": scores, "probabilities": probabilities}


def budget(**costs: float) -> dict[str, Any]:
    known = {"miss": 1.0, "false_alarm": 1.0, "mllm_error": 0.1, **costs}
    return {"load": 0.3, "price": 0.1, "costs": known, "low_at_most": 0.4}


def gate_folder(folder: Path, onnx: bytes | None = None, **changes: Any) -> Path:
    settings = {**SETTINGS.as_json(), **changes}
    (folder / "gate.json").write_text(json.dumps({k: v for k, v in settings.items() if v != "-"}))
    if onnx is not None:
        (folder / "gate.onnx").write_bytes(onnx)
    return folder


def test_boxes_come_back_in_the_frame_of_the_image() -> None:
    # A 128 x 64 frame fills the middle half of the 64 x 64 square: scale 1/2, 16 grey rows above.
    (found,) = detect([[32, 32, 16, 8, 0.1, 0.9]], width=128, height=64)
    box = found.box
    assert (box.x1, box.y1, box.x2, box.y2) == (48, 24, 80, 40)
    assert box.frame == Size(128, 64)
    assert (found.severity, found.confidence) == ("severe", pytest.approx(0.9))


def test_boxes_are_clipped_to_the_frame() -> None:
    (found,) = detect([[32, 32, 200, 200, 0.5, 0]], width=64, height=64)
    assert (found.box.x1, found.box.y1, found.box.x2, found.box.y2) == (0, 0, 64, 64)


def test_detections_come_most_confident_first_and_the_improbable_not_at_all() -> None:
    rows = [[10, 10, 8, 8, 0.3, 0], [30, 30, 8, 8, 0, 0.7], [50, 50, 8, 8, 0.009, 0]]
    assert [round(d.confidence, 2) for d in detect(rows, 64, 64)] == [0.7, 0.3]


def test_one_accident_seen_twice_is_reported_once_and_two_classes_stay_apart() -> None:
    rows = [[30, 30, 20, 20, 0.8, 0], [31, 30, 20, 20, 0.6, 0], [30, 30, 20, 20, 0, 0.5]]
    found = detect(rows, 64, 64)
    assert [(d.severity, round(d.confidence, 2)) for d in found] == [
        ("moderate", 0.8),
        ("severe", 0.5),
    ]


@pytest.mark.parametrize("place", range(6))
def test_an_answer_with_nan_is_an_error_and_not_an_empty_road(place: int) -> None:
    row = [32.0, 32.0, 16.0, 8.0, 0.9, 0.1]
    row[place] = float("nan")
    with pytest.raises(ModelError, match="answers with NaN"):
        detect([row], width=64, height=64)


def test_the_model_sees_rgb_in_zero_to_one_with_grey_around() -> None:
    engine = FakeEngine([])
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :, 0] = 255  # blue
    assert YoloDetector(engine, SETTINGS).detect(image) == ()
    (blob,) = engine.seen
    assert blob.shape == (1, 3, 64, 64)
    assert blob[0, :, 32, 32].tolist() == [0, 0, 1]
    assert blob[0, :, 0, 0] == pytest.approx([114 / 255] * 3)


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((0, 64, 3), np.uint8)],
    ids=["grey", "float", "empty"],
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a uint8 BGR image"):
        YoloDetector(FakeEngine([]), SETTINGS).detect(image)


@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.sampled_from([64, 160, 640]),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_the_letterbox_is_undone_exactly(width: int, height: int, side: int, at: list) -> None:
    letterbox = Letterbox(Size(width, height), side)
    x1, x2 = sorted((at[0] * width, at[1] * width))
    y1, y2 = sorted((at[2] * height, at[3] * height))
    (left, top), inner = letterbox.corner, letterbox.inner
    sx, sy = inner.width / width, inner.height / height
    inside = [[x1 * sx + left, y1 * sy + top, x2 * sx + left, y2 * sy + top]]
    back = letterbox.invert(np.array(inside, np.float32))[0]
    assert back == pytest.approx([x1, y1, x2, y2], abs=1e-3 * max(width, height, side))
    assert left >= 0
    assert top >= 0
    assert max(left + inner.width, top + inner.height) <= side


def by_definition(boxes: np.ndarray, scores: list, classes: list, iou: float) -> list[int]:
    stays: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in stays:
            x = min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0])
            y = min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1])
            overlap = max(x, 0) * max(y, 0)
            areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[i], boxes[j]))
            if classes[i] == classes[j] and overlap > iou * (areas - overlap):
                break
        else:
            stays.append(i)
    return stays


@given(
    st.lists(
        st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2, st.integers(0, 1)),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.3, 0.7]),
)
def test_suppression_does_what_its_definition_says(rows: list, random: Any, iou: float) -> None:
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], np.float32).reshape(-1, 4)
    scores = [random.choice((0.1, 0.5, random.random())) for _ in rows]
    classes = [c for *_, c in rows]
    stays = suppress(boxes, np.array(scores, np.float32), np.array(classes, np.intp), iou)
    assert stays == by_definition(boxes, [float(np.float32(s)) for s in scores], classes, iou)


def test_suppression_stops_at_the_most_that_is_reported() -> None:
    boxes = np.array([[10 * i, 0, 10 * i + 5, 5] for i in range(MAX_DETECTIONS + 9)], np.float32)
    scores, classes = np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.intp)
    assert len(suppress(boxes, scores, classes, 0.7)) == MAX_DETECTIONS


def test_a_gate_folder_loads_and_keeps_its_settings(tmp_path: Path) -> None:
    detector = YoloDetector.load(gate_folder(tmp_path, constant_model(0)))
    assert detector.settings == SETTINGS
    assert detector.detect(np.zeros((48, 64, 3), np.uint8)) == ()


@pytest.mark.parametrize(
    "calibration",
    [
        None,
        Logistic(0.8, -0.1, {"sound": Signal(0.5, -0.2)}),
        Isotonic((0.0, 0.5), (0.1, 0.9)),
    ],
    ids=["none", "logistic", "isotonic"],
)
def test_settings_are_the_same_after_writing_and_reading(
    tmp_path: Path, calibration: Calibration | None
) -> None:
    held = Budget(0.3, 0.1, Costs(2.0, 1.0, 0.05), 0.4)
    settings = GateSettings((None,), 96, routing=Routing(0.3, Band(0.2, 0.7), calibration, held))
    (tmp_path / "gate.json").write_text(json.dumps(settings.as_json()))
    assert GateSettings.read(tmp_path / "gate.json") == settings


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": 1}, "version is 1, this library reads 2: make the gate again"),
        ({"version": None}, "version is None"),
        ({"classes": ["severe"]}, "classes is"),
        ({"classes": ["moderate", "fire"]}, "classes is"),
        ({"imgsz": 100}, "imgsz is 100"),
        ({"imgsz": True}, "imgsz is True"),
        ({"imgsz": 1 << 20}, "imgsz is"),
        ({"model": "../gate.onnx"}, "model is"),
        ({"model": "/tmp/gate.onnx"}, "model is"),
        ({"model": "a" * 300 + ".onnx"}, "model is"),
        ({"model": "\ud800.onnx"}, "model is"),
        ({"low": -0.1}, "low is"),
        ({"low": 10**400}, "low is 1000"),
        ({"high": float("nan")}, "NaN is not JSON"),
        ({"high": 0.2}, "above high"),
        ({"keep": 2}, "keep is 2"),
        ({"calibration": {"method": "none"}}, "calibration is"),
        (
            {"calibration": {"method": "logistic", "weight": 1, "bias": 0}},
            "signals is missing",
        ),
        ({"calibration": logistic(weight=-1)}, "weight is -1"),
        ({"calibration": logistic(weight=1e300)}, "weight is 1e\\+300"),
        ({"calibration": logistic(bias=None)}, "bias is None"),
        ({"calibration": logistic(signals={"sound": 1})}, "signal 'sound': 1 is not an object"),
        ({"calibration": isotonic([0, 1], [0.5])}, "as many scores"),
        ({"calibration": isotonic([0.5, 0.2], [0, 1])}, "do not rise"),
        ({"calibration": isotonic([], [])}, "1 to 1000"),
        ({"budget": {"load": 0.3}}, "budget: price is missing"),
        ({"budget": budget(mllm_error=0.5)}, "less than 0.5"),
        ({"budget": budget(miss=0)}, "costs: miss is 0, expected a number from 1e-09"),
        ({"budget": budget(false_alarm=5e-324)}, "costs: false_alarm is 5e-324"),
        ({"nms_iou": "0.7"}, "nms_iou is"),
        ({"nms_iou": "-"}, "nms_iou is missing"),
        ({"note": 1}, "unknown key 'note', expected version, model"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(
    tmp_path: Path, changes: dict, complaint: str
) -> None:
    folder = gate_folder(tmp_path, b"", **changes)
    with pytest.raises(ModelError, match=complaint):
        YoloDetector.load(folder)


@pytest.mark.parametrize("text", ["", "[1", "[]", "[" * 100_000, "\x00"])
def test_a_gate_file_that_is_no_gate_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "gate.json").write_text(text)
    with pytest.raises(ModelError, match=r"gate\.json"):
        YoloDetector.load(tmp_path)


def test_a_folder_without_a_gate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        YoloDetector.load(tmp_path)
    with pytest.raises(ModelError, match=r"gate\.onnx: part of the model is missing"):
        YoloDetector.load(gate_folder(tmp_path))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (lambda: b"not onnx", "not a model that ONNX Runtime can load"),
        (lambda: constant_model(0)[:-40], "not a model that ONNX Runtime can load"),
        (lambda: constant_model(0, (1, 84, ANCHORS)), "output is"),
        (lambda: constant_model(0, (1, 6, 20)), "output is"),
        (lambda: constant_model(float("nan")), "NaN or infinity"),
    ],
    ids=["garbage", "cut short", "other classes", "other size", "NaN"],
)
def test_a_broken_or_foreign_model_is_refused(tmp_path: Path, model: Any, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        YoloDetector.load(gate_folder(tmp_path, model()))


def read(rows: list[list[float]]):
    """What is read from an answer over a square frame of the model's own size."""
    output = np.array(rows, np.float32).T
    return YoloDetector(FakeEngine([]), SETTINGS).read(output, Letterbox(Size(64, 64), 64))


def test_a_score_of_just_the_least_is_not_reported_and_one_of_just_over_one_is_one() -> None:
    least = np.float32(0.01)
    above = np.nextafter(least, np.float32(1))
    over = np.float32(1 + module.OVER)
    found = read([[10, 10, 4, 4, 0, float(least)], [30, 30, 4, 4, float(above), 0]])
    assert [(d.severity, d.confidence) for d in found] == [("moderate", float(above))]
    (sure,) = read([[10, 10, 4, 4, 0, float(np.nextafter(over, np.float32(0)))]])
    assert (sure.severity, sure.confidence) == ("severe", 1.0)
    with pytest.raises(ModelError, match=r"^gate\.onnx: a score of 1\.5, expected 0 to 1$"):
        read([[10, 10, 4, 4, 0, 1.5]])
    nothing = np.zeros((6, 0), np.float32)
    assert YoloDetector(FakeEngine([]), SETTINGS).read(nothing, Letterbox(Size(64, 64), 64)) == ()


def test_what_lies_in_the_bars_beside_the_frame_is_no_detection() -> None:
    wide = Letterbox(Size(64, 32), 64)  # bars of 16 above and below
    rows = [[30, 8, 10, 12, 0.9, 0], [30, 16, 10, 2, 0, 0.8], [40, 16, 10, 2.5, 0.7, 0]]
    detector = YoloDetector(FakeEngine([]), SETTINGS)
    found = detector.read(np.array(rows, np.float32).T, wide)
    assert [d.box[:4] for d in found] == [(25, 0, 35, 1), (35, 0, 45, 1.25)]


def test_a_box_is_centre_and_size_and_its_class_the_likelier_one() -> None:
    (found,) = read([[20, 30, 8, 12, 0.4, 0.6]])
    assert (found.box.x1, found.box.y1, found.box.x2, found.box.y2) == (16, 24, 24, 36)
    assert (found.severity, found.confidence) == ("severe", float(np.float32(0.6)))
    assert found.box.frame == Size(64, 64)


def test_of_what_is_improbable_only_the_score_is_looked_at() -> None:
    nan = float("nan")
    assert read([[nan, nan, nan, nan, 0, 0.005]]) == ()
    for broken in ([nan, 1, 1, 1, 0, 0.5], [1, 1, 1, float("inf"), 0.5, 0], [1, 1, 1, 1, nan, 0]):
        words = r"^gate\.onnx: the model answers with NaN or infinity$"
        with pytest.raises(ModelError, match=words):
            read([broken])


def test_a_model_that_fails_and_what_is_no_picture_are_told_in_words() -> None:
    class Failing(FakeEngine):
        def run(self, blob: np.ndarray) -> np.ndarray:
            raise RuntimeError("no memory")

    with pytest.raises(ModelError, match=r"^gate\.onnx: the model cannot run \(no memory\)$"):
        YoloDetector(Failing([]), SETTINGS).detect(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"^expected a uint8 BGR image, got float32 of \(4, 4, 3\)$"
    ):
        YoloDetector(FakeEngine([]), SETTINGS).detect(np.zeros((4, 4, 3), np.float32))


def test_boxes_are_computed_in_float32_as_they_were_measured() -> None:
    letterbox = Letterbox(Size(1_279, 719), 640)
    boxes = np.random.default_rng(2).uniform(-20, 660, (500, 4)).astype(np.float32)
    (left, top), inner = letterbox.corner, letterbox.inner
    shift = np.float32([left, top, left, top])
    scale = np.float32([inner.width / 1_279, inner.height / 719] * 2)
    limit = np.float32([1_279, 719] * 2)
    expected = np.clip((boxes - shift) / scale, np.float32(0), limit)
    found = letterbox.invert(boxes)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("frame", "side", "inner", "corner"),
    [
        (Size(64, 64), 64, Size(64, 64), (0, 0)),
        (Size(100, 50), 64, Size(64, 32), (0, 16)),
        (Size(50, 101), 64, Size(32, 64), (16, 0)),
        (Size(64, 63), 64, Size(64, 63), (0, 0)),  # of an odd rest the smaller half lies above
        (Size(64, 61), 64, Size(64, 61), (0, 1)),
        (Size(5_000, 10), 64, Size(64, 1), (0, 31)),
        (Size(10, 5_000), 64, Size(1, 64), (31, 0)),
    ],
)
def test_where_a_frame_lies_in_the_square(
    frame: Size, side: int, inner: Size, corner: tuple[int, int]
) -> None:
    letterbox = Letterbox(frame, side)
    assert (letterbox.inner, letterbox.corner) == (inner, corner)
    image = np.full((frame.height, frame.width, 3), 7, np.uint8)
    square = letterbox.apply(image)
    assert (square.shape, square.dtype) == ((side, side, 3), np.uint8)
    (left, top) = corner
    inside = square[top : top + inner.height, left : left + inner.width]
    assert (inside == 7).all()
    assert (square == 114).sum() == square.size - inside.size


def test_a_frame_of_the_models_size_is_not_scaled() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(Letterbox(Size(64, 64), 64).apply(image), image)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (FakeEngine.inputs, FakeEngine.outputs, None),
        (FakeEngine.inputs * 2, FakeEngine.outputs, "2 inputs and 1 outputs, expected one of each"),
        (FakeEngine.inputs, (), "1 inputs and 0 outputs, expected one of each"),
        (
            (Tensor("uint8", (1, 3, 64, 64)),),
            FakeEngine.outputs,
            "input is uint8 (1, 3, 64, 64), expected float32 (1, 3, 64, 64)",
        ),
        (
            FakeEngine.inputs,
            (Tensor("float32", (1, 6, 85)),),
            "output is float32 (1, 6, 85), expected float32 (1, 6, 84)",
        ),
    ],
)
def test_what_a_model_must_take_and_give_is_told(
    inputs: Any, outputs: Any, words: str | None
) -> None:
    engine = FakeEngine([])
    engine.inputs, engine.outputs = inputs, outputs
    assert module._signature_problem(engine, SETTINGS) == words


def test_a_folder_is_loaded_with_its_threads_and_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gate.json").write_text(json.dumps(SETTINGS.as_json()))
    engine, asked = FakeEngine([]), []
    path = tmp_path / "gate.onnx"
    monkeypatch.setattr(module, "load_engine", lambda *about: asked.append(about) or engine)
    monkeypatch.setattr(module, "first_run", lambda *about: asked.append(about))
    found = YoloDetector.load(tmp_path)
    assert (found._engine, found.settings) == (engine, SETTINGS)
    YoloDetector.load(tmp_path, 5)
    assert asked == [(path, 1), (path, 64, engine), (path, 5), (path, 64, engine)]
    engine.outputs = ()
    words = rf"^{path}: 1 inputs and 0 outputs, expected one of each$"
    with pytest.raises(ModelError, match=words):
        YoloDetector.load(tmp_path)
