"""Both engines on the same small models: ONNX Runtime for .onnx, OpenVINO for .xml with .bin."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.edge import engines
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.engines import Tensor, load_engine, model_files
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import SEVERITIES

SIDE = 64
ANCHORS = 64 + 16 + 4
ROOT = Path(__file__).parents[3]


def looking_model(anchors: int = ANCHORS, kind: int = 1) -> bytes:
    """An ONNX detector that looks: (1, 3, 64, 64) through one random convolution to all anchors."""
    onnx = pytest.importorskip("onnx")
    random = np.random.default_rng(0)
    make, array = onnx.helper.make_node, onnx.numpy_helper.from_array
    size = np.array([30, 30, 20, 20, 0.5, 0.5], np.float32).reshape(1, 6, 1)
    constants = {
        "weights": random.normal(0, 0.05, (6, 3, 32, 32)).astype(np.float32),
        "shape": np.array([1, 6, -1]),
        "repeats": np.array([1, 1, anchors // 4]),
        "size": size * (np.float32 if kind == 1 else np.float64)(1),
    }
    nodes = [
        make("Conv", ["images", "weights"], ["seen"], strides=[32, 32]),
        make("Reshape", ["seen", "shape"], ["four"]),
        make("Sigmoid", ["four"], ["share"]),
        make("Tile", ["share", "repeats"], ["all"]),
        make("Cast", ["all"], ["cast"], to=kind),
        make("Mul", ["cast", "size"], ["output0"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "looking",
        [onnx.helper.make_tensor_value_info("images", 1, [1, 3, SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("output0", kind, [1, 6, anchors])],
        [array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def write_onnx(folder: Path, model: bytes | None = None) -> Path:
    (folder / "gate.onnx").write_bytes(looking_model() if model is None else model)
    return folder / "gate.onnx"


def write_openvino(folder: Path, model: bytes | None = None) -> Path:
    pytest.importorskip("openvino")
    openvino = engines.silent_openvino()
    read = openvino.Core().read_model(write_onnx(folder, model))
    openvino.save_model(read, folder / "gate.xml", compress_to_fp16=False)
    return folder / "gate.xml"


def gate(folder: Path, model: Path) -> Path:
    settings = GateSettings(classes=SEVERITIES, imgsz=SIDE, model=model.name)
    (folder / "gate.json").write_text(json.dumps(settings.as_json()))
    return folder


WRITERS = pytest.mark.parametrize("write", [write_onnx, write_openvino], ids=["onnx", "openvino"])


@WRITERS
def test_an_engine_says_what_goes_in_and_out(tmp_path: Path, write: Callable[..., Path]) -> None:
    engine = load_engine(write(tmp_path), threads=1)
    assert engine.inputs == (Tensor("float32", (1, 3, SIDE, SIDE)),)
    assert engine.outputs == (Tensor("float32", (1, 6, ANCHORS)),)


def test_both_engines_find_the_same(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (48, 80, 3), np.uint8)
    gate(tmp_path, write_openvino(tmp_path))
    in_openvino = YoloDetector.load(tmp_path).detect(image)
    gate(tmp_path, write_onnx(tmp_path))
    in_onnxruntime = YoloDetector.load(tmp_path).detect(image)
    assert in_onnxruntime
    assert len(in_openvino) == len(in_onnxruntime)
    for one, other in zip(in_openvino, in_onnxruntime, strict=True):
        assert one.severity == other.severity
        assert one.box.iou(other.box) > 0.999
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


@WRITERS
def test_an_answer_stays_when_the_next_picture_is_seen(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    engine = load_engine(write(tmp_path), threads=2)
    first = engine.run(np.zeros((1, 3, SIDE, SIDE), np.float32))
    before = first.copy()
    second = engine.run(np.ones((1, 3, SIDE, SIDE), np.float32))
    assert (first == before).all()
    assert not (first == second).all()


def test_the_suffix_names_the_files_of_a_model() -> None:
    assert model_files("gate.onnx") == ("gate.onnx",)
    assert model_files("gate.v2.xml") == ("gate.v2.xml", "gate.v2.bin")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def garble(path: Path) -> None:
    path.write_bytes(b"not a model")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nest(path: Path) -> None:
    path.write_bytes(b"<net>" * 100_000)


def put_onnx(path: Path) -> None:
    path.write_bytes(looking_model())


@pytest.mark.parametrize("name", ["gate.xml", "gate.bin"])
@pytest.mark.parametrize("spoil", [cut, empty])
def test_a_broken_openvino_model_is_refused(
    tmp_path: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    path = write_openvino(tmp_path)
    spoil(tmp_path / name)
    with pytest.raises(ModelError, match=r"gate\.xml: not a model that OpenVINO can load"):
        load_engine(path, threads=1)


@pytest.mark.parametrize("spoil", [garble, nest, put_onnx])
def test_only_openvinos_own_format_is_read_from_an_xml_file(
    tmp_path: Path, spoil: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_openvino(tmp_path)
    spoil(path)
    with pytest.raises(ModelError, match="not a model that OpenVINO can load"):
        load_engine(path, threads=1)
    assert "tensorflow" not in capfd.readouterr().err  # whose reader would be tried as well


@WRITERS
@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (lambda: looking_model(anchors=40), "output is"),
        (lambda: looking_model(kind=11), "output is"),
    ],
    ids=["other size", "other type"],
)
def test_a_model_of_other_shapes_is_refused(
    tmp_path: Path, write: Callable[..., Path], model: Callable[[], bytes], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        YoloDetector.load(gate(tmp_path, write(tmp_path, model())))


def test_every_file_of_a_model_has_to_be_there_and_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_openvino(tmp_path)
    monkeypatch.setitem(engines._MAX_BYTES, ".bin", 1000)
    with pytest.raises(ModelError, match=r"gate\.bin: larger than 1000 bytes"):
        load_engine(path, threads=1)
    (tmp_path / "gate.bin").unlink()
    with pytest.raises(ModelError, match=r"gate\.bin: part of the model is missing"):
        load_engine(path, threads=1)


def test_without_openvino_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_openvino(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"pip install dat-runtime\[openvino\]"):
        load_engine(path, threads=1)


def test_openvino_reports_nothing_and_leaves_the_home_folder_alone(tmp_path: Path) -> None:
    path, home = write_openvino(tmp_path), tmp_path / "home"
    home.mkdir()
    program = (
        "import sys; from pathlib import Path; from dat_runtime.edge.engines import load_engine; "
        "load_engine(Path(sys.argv[1]), 1); print(sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"HOME": str(home), "PATH": ""},
    )
    assert done.stdout == "None\n", done.stderr
    assert list(home.iterdir()) == []


@WRITERS
def test_a_gate_at_work_goes_on_when_a_broken_one_takes_its_place(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (48, 80, 3), np.uint8)
    path = write(tmp_path)
    at_work = YoloDetector.load(gate(tmp_path, path))
    before = at_work.detect(image)
    for name in model_files(path.name):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match="not a model"):
        YoloDetector.load(tmp_path)
    assert at_work.detect(image) == before
