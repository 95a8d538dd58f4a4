"""How each engine's library is asked; none is loaded here."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.edge import engines as module
from dat_runtime.edge.engines import OnnxRuntime, OpenVino, Tensor, load_engine, stated_sizes
from dat_runtime.errors import ModelError


def error_of(work: Any) -> str:
    with pytest.raises(ModelError) as caught:
        work()
    return str(caught.value)


class Session:
    def __init__(self, path: Path, options: Any, providers: list[str]):
        self.about = (path, vars(options), providers)
        if path.name == "bad.onnx":
            raise RuntimeError("Protobuf parsing failed")

    def get_inputs(self) -> list[Any]:
        return [
            SimpleNamespace(name="images", type="tensor(float)", shape=[1, 3, "height", None]),
            SimpleNamespace(name="more", type="tensor(uint8)", shape=[]),
        ]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="output0", type="tensor(double)", shape=[1, 6, 84])]

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
        assert outputs is None
        assert list(inputs) == ["images"]
        return [np.full((1, 2), 0.5, np.float64), "another"]


def test_onnx_runtime_is_asked_for_the_cpu_and_threads_that_do_not_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[Any] = []

    class Options:
        def add_session_config_entry(self, *about: str) -> None:
            entries.append(about)

    library = SimpleNamespace(SessionOptions=Options, InferenceSession=Session)
    monkeypatch.setattr(module, "silent_onnxruntime", lambda: library)
    path = tmp_path / "gate.onnx"
    engine = OnnxRuntime(path, 3)
    numbers = {"intra_op_num_threads": 3, "inter_op_num_threads": 1, "log_severity_level": 4}
    assert engine._session.about == (path, numbers, ["CPUExecutionProvider"])
    assert entries == [("session.intra_op.allow_spinning", "0")]
    images = Tensor("float32", (1, 3, "height", None))
    assert engine.inputs == (images, Tensor("tensor(uint8)", ()))
    assert engine.outputs == (Tensor("tensor(double)", (1, 6, 84)),)
    found = engine.run(np.zeros((1, 3, 4, 4), np.float32))
    assert (found.dtype, found.shape) == (np.float32, (1, 2))
    words = "not a model that ONNX Runtime can load (Protobuf parsing failed)"
    bad = tmp_path / "bad.onnx"
    assert error_of(lambda: OnnxRuntime(bad, 3)) == f"{bad}: {words}"


class Library:
    """In the place of OpenVINO: notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer = np.full((1, 2), 0.5, np.float32)
        self.error: Exception | None = None
        self.frontend = SimpleNamespace(FrontEndManager=lambda: self)

    def load_by_framework(self, name: str) -> "Library":
        self.asked.append(name)
        return self

    def load(self, path: str, enable_mmap: bool) -> str:
        self.asked.append((path, enable_mmap))
        if self.error is not None:
            raise self.error
        return "loaded"

    def convert(self, loaded: str) -> Any:
        assert loaded == "loaded"
        fixed, free = (
            SimpleNamespace(is_static=True, get_length=lambda: 3),
            SimpleNamespace(is_static=False, get_length=None),
        )

        def port(kind: str, *shape: Any) -> Any:
            return SimpleNamespace(
                get_element_type=lambda: SimpleNamespace(to_string=lambda: kind),
                get_partial_shape=lambda: shape,
            )

        return SimpleNamespace(inputs=[port("f32", fixed, free)], outputs=[port("f16", free)])

    def Core(self) -> "Library":
        return self

    def compile_model(self, model: Any, device: str, properties: dict[str, Any]) -> "Library":
        self.asked.append((device, properties))
        return self

    def create_infer_request(self) -> "Library":
        return self

    def infer(self, blobs: list[Any], share_inputs: bool) -> list[Any]:
        self.asked.append((len(blobs), share_inputs))
        return [self.answer, "another"]


def test_openvino_is_asked_to_read_its_own_format_into_memory_and_not_to_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    monkeypatch.setattr(module, "silent_openvino", lambda: library)
    path = tmp_path / "gate.xml"
    engine = OpenVino(path, 3)
    properties = {
        "INFERENCE_NUM_THREADS": 3,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    assert library.asked == ["ir", (str(path), False), ("CPU", properties)]
    assert engine.inputs == (Tensor("float32", (3, None)),)
    assert engine.outputs == (Tensor("f16", (None,)),)
    found = engine.run(np.zeros((1, 3, 4, 4), np.float32))
    assert library.asked[3:] == [(1, True)]
    assert found.dtype == np.float32
    library.answer[:] = 7  # the next picture's
    assert found.max() == 0.5
    library.error = RuntimeError("cannot\n  load")
    words = f"{path}: not a model that OpenVINO can load (cannot load)"
    assert error_of(lambda: OpenVino(path, 3)) == words


def test_without_openvino_what_to_install_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = "needs OpenVINO, which is not installed: pip install dat-runtime[openvino]"
    path = tmp_path / "gate.xml"
    assert error_of(lambda: OpenVino(path, 1)) == f"{path} {words}"


def test_neither_library_reports_to_its_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(name=name))  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert module.silent_openvino().name == "openvino"
    with pytest.raises(ImportError):
        __import__("openvino_telemetry")
    assert module.silent_onnxruntime().name == "onnxruntime"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("name", "files", "most"),
    [
        ("gate.onnx", ["gate.onnx"], {"gate.onnx": 1 << 30}),
        ("gate.xml", ["gate.xml", "gate.bin"], {"gate.xml": 1 << 24, "gate.bin": 1 << 30}),
    ],
)
def test_the_files_of_a_model_are_bounded(
    tmp_path: Path, name: str, files: list[str], most: dict[str, int]
) -> None:
    for file in files:
        words = f"{tmp_path / file}: part of the model is missing"
        assert error_of(lambda: stated_sizes(tmp_path / name)) == words
        (tmp_path / file).touch()
    for file in files:
        os.truncate(tmp_path / file, most[file])
        assert stated_sizes(tmp_path / name)[file] == most[file]
        os.truncate(tmp_path / file, most[file] + 1)
        words = f"{tmp_path / file}: larger than {most[file]} bytes"
        assert error_of(lambda: stated_sizes(tmp_path / name)) == words
        os.truncate(tmp_path / file, 5)
    assert stated_sizes(tmp_path / name) == dict.fromkeys(files, 5)


def test_the_suffix_chooses_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OpenVino", "OnnxRuntime"):
        monkeypatch.setattr(module, name, lambda *about, of=name: (of, *about))
    for file in ("gate.onnx", "gate.xml", "gate.bin"):
        (tmp_path / file).touch()
    for file, engine in (("gate.onnx", "OnnxRuntime"), ("gate.xml", "OpenVino")):
        assert load_engine(tmp_path / file, 3) == (engine, tmp_path / file, 3)
    (tmp_path / "gate.bin").unlink()
    assert error_of(lambda: load_engine(tmp_path / "gate.xml", 3)).endswith("is missing")
