"""What runs a gate's model on the CPU: ONNX Runtime for `.onnx`, OpenVINO for `.xml` and `.bin`.

An engine is a loaded model that states its inputs and outputs; the detector around it is the same
for both.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dat_runtime.errors import ModelError

Floats = NDArray[np.float32]
Shape = tuple[int | str | None, ...]

_MAX_BYTES = {".onnx": 1 << 30, ".xml": 1 << 24, ".bin": 1 << 30}


@dataclass(frozen=True)
class Tensor:
    """An input or output as the model's file states it.

    Attributes:
        type: "float32", or another type in the engine's own words.
        shape: a name or `None` where a length is not fixed.
    """

    type: str
    shape: Shape


class Engine(Protocol):
    """A model that was loaded."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    def run(self, blob: Floats) -> Floats:
        """The first output for the only input; raises whatever the library raises."""
        ...


def model_files(model: str) -> tuple[str, ...]:
    """The files that make up a model of this file name, all in one folder."""
    path = Path(model)
    if path.suffix == ".xml":  # OpenVINO keeps the weights beside the graph
        return model, path.with_suffix(".bin").name
    return (model,)


def stated_sizes(path: Path) -> dict[str, int]:
    """The bytes of each file of a model, by its name.

    Raises:
        ModelError: a file is missing, or larger than any gate's.
    """
    sizes = {}
    for name in model_files(path.name):
        file = path.with_name(name)
        if not file.is_file():
            raise ModelError("part of the model is missing", file)
        limit = _MAX_BYTES[file.suffix]
        sizes[name] = file.stat().st_size
        if sizes[name] > limit:
            raise ModelError(f"larger than {limit} bytes", file)
    return sizes


def load_engine(path: Path, threads: int) -> Engine:
    """The model in a file, ready to run on that many threads.

    Raises:
        ModelError: a file of it is missing or too large, the engine's library is not installed, or
            it cannot load the model.
    """
    stated_sizes(path)
    return OpenVino(path, threads) if path.suffix == ".xml" else OnnxRuntime(path, threads)


def silent_openvino() -> Any:
    """The module `openvino`, imported without its telemetry.

    The import alone would report to its makers and write into the home folder, and only a file
    there can switch that off. Where the package `openvino_telemetry` cannot be imported, neither
    OpenVINO nor NNCF does it.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # type: ignore[import-untyped]

    return openvino


def silent_onnxruntime() -> Any:
    """The module `onnxruntime`, imported without its telemetry.

    Its wheels write a device id into the home folder and report to their makers. Only this
    variable, read once while the library is loaded, stops both; a call after the import comes too
    late for the first report.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # type: ignore[import-untyped]

    return onnxruntime


class OnnxRuntime:
    """An `.onnx` file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int):
        onnxruntime = silent_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Idle threads of the pool would spin on cores that the MLLM and the uplink need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        cpu = ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=cpu)
        except Exception as error:  # onnxruntime's errors share no base class
            raise ModelError(f"{path}: not a model that ONNX Runtime can load ({error})") from None
        self.inputs = tuple(self._tensor(t) for t in self._session.get_inputs())
        self.outputs = tuple(self._tensor(t) for t in self._session.get_outputs())
        self._names = [t.name for t in self._session.get_inputs()]

    @staticmethod
    def _tensor(stated: Any) -> Tensor:
        kind = "float32" if stated.type == "tensor(float)" else str(stated.type)
        return Tensor(kind, tuple(stated.shape))

    def run(self, blob: Floats) -> Floats:
        return np.asarray(self._session.run(None, {self._names[0]: blob})[0], np.float32)


class OpenVino:
    """An `.xml` file, and the `.bin` beside it, in OpenVINO."""

    def __init__(self, path: Path, threads: int):
        try:
            openvino = silent_openvino()
        except ImportError:
            raise ModelError(
                f"{path} needs OpenVINO, which is not installed: pip install dat-runtime[openvino]"
            ) from None
        properties = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # By default some processors compute in bfloat16, with other answers than were measured.
            "INFERENCE_PRECISION_HINT": "f32",
            # A pinned thread would wait for its core while the MLLM or the uplink uses it.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            # The reader is named: `read_model` would try the readers of all formats on a file
            # that holds something else.
            reader = openvino.frontend.FrontEndManager().load_by_framework("ir")
            # Not memory-mapped: a mapped file that is cut short later would kill the process.
            model = reader.convert(reader.load(str(path), enable_mmap=False))
            self.inputs = tuple(self._tensor(port) for port in model.inputs)
            self.outputs = tuple(self._tensor(port) for port in model.outputs)
            compiled = openvino.Core().compile_model(model, "CPU", properties)
            self._request = compiled.create_infer_request()
        except Exception as error:  # openvino raises RuntimeError and its own
            words = " ".join(str(error).split())
            raise ModelError(f"{path}: not a model that OpenVINO can load ({words})") from None

    @staticmethod
    def _tensor(port: Any) -> Tensor:
        kind = str(port.get_element_type().to_string())
        shape: list[int | None] = []
        for dimension in port.get_partial_shape():
            shape.append(dimension.get_length() if dimension.is_static else None)
        return Tensor("float32" if kind == "f32" else kind, tuple(shape))

    def run(self, blob: Floats) -> Floats:
        # A copy: the answer lies in the request's own memory, which the next one overwrites.
        return np.array(self._request.infer([blob], share_inputs=True)[0], np.float32)
