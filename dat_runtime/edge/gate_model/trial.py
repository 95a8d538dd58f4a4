"""A gate's model checked on its file, then run once in a child that may take little.

Engines are large libraries in C++: what a file makes them do is found out where it harms nobody.
"""

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import numpy as np

from dat_runtime import children
from dat_runtime.edge.engines import (
    Engine,
    load_engine,
    silent_onnxruntime,
    silent_openvino,
    stated_sizes,
)
from dat_runtime.edge.gate_model.onnx_graph import read_graph
from dat_runtime.edge.gate_model.onnx_shapes import check_graph
from dat_runtime.edge.gate_model.openvino_ir import check_ir
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.files import read_bytes

try:
    import resource
except ImportError:  # not on this system: the child's time is limited, its memory is not
    resource = None  # type: ignore[assignment]

MAX_CPU_S = 60
"""Of the child; YOLOv12s takes 1 s on one core."""

MAX_WALL_S = 120
"""A core may be shared with all that starts at the same time."""

MAX_MEMORY = 1 << 30
"""Bytes of address space beyond the library's own, and beyond six times the model's file."""

_MAX_WORDS = 2000
_GREY = 114 / 255
OVER = 1e-3
"""Scores are shares; an engine's sigmoid may end a rounding above 1."""


def check_file(path: Path, settings: GateSettings) -> None:
    """Refuse a model whose operators, shapes or sizes are not those of a gate; nothing runs.

    Raises:
        ModelError: a file of it is missing or too large, or names what no gate has.
    """
    sizes = stated_sizes(path)
    content = read_bytes(path, ModelError, most_bytes=sizes[path.name])
    try:
        if path.suffix == ".onnx":
            _check_onnx(content, settings)
        else:
            check_ir(content, settings.imgsz, sizes[path.with_suffix(".bin").name])
    except ValueError as error:
        raise ModelError(f"not a gate's model: {error}", path) from None


def _check_onnx(content: bytes, settings: GateSettings) -> None:
    graph, side = read_graph(content), settings.imgsz
    if graph.input_shape != (1, 3, side, side):
        raise ValueError(f"input is {list(graph.input_shape)}, expected {[1, 3, side, side]}")
    answer = check_graph(graph)
    if len(answer) != 3 or answer[:2] != (1, 4 + len(settings.classes)):
        raise ValueError(f"output is {list(answer)}, expected [1, {4 + len(settings.classes)}, n]")


class Trial:
    """The first run of a model that `check_file` let pass, begun when it is made.

        with Trial(path, side) as trial:
            ...other work, while it runs...
            trial.demand()

    Leaving the block ends the child.

    Args:
        side: of the model's input, pixels.
        cpu_s: processor time that the child may take.
    """

    def __init__(self, path: Path, side: int, cpu_s: int = MAX_CPU_S):
        self._path, self._cpu_s = path, cpu_s
        self._began = time.monotonic()
        self._child = subprocess.Popen(
            [sys.executable, "-PBm", __name__, str(path.absolute()), str(side), str(cpu_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=children.environment(),
            start_new_session=True,
        )

    def __enter__(self) -> "Trial":
        return self

    def demand(self) -> None:
        """Wait for the child.

        Raises:
            ModelError: it failed, with its words; or took more time or memory than a gate does.
        """
        try:
            words, _ = self._child.communicate(
                timeout=max(0.0, self._began + MAX_WALL_S - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            raise ModelError(f"a first run did not end within {MAX_WALL_S} s", self._path) from None
        if self._child.returncode == 0:
            return
        said = words[:_MAX_WORDS].decode("utf-8", "replace").strip()
        if not said:
            said = (
                f"{self._path}: ended with {self._child.returncode}; {self._cpu_s} s of processor "
                f"time and {MAX_MEMORY >> 20} MB are allowed"
            )
        raise ModelError(f"a first run in a process of its own failed: {said}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()


def _limit(model_bytes: int, cpu_s: int) -> None:
    """Of this process, from now on: the address space that is taken already stays."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere address space is not counted, or not to be limited
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = taken + MAX_MEMORY + 6 * model_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def first_run(path: Path, side: int, engine: Engine | None = None) -> None:
    """Load and run a model once on grey.

    Raises:
        ModelError: it cannot be loaded or run, or its answer holds NaN, infinity or no scores.
    """
    engine = engine or load_engine(path, threads=1)
    grey = np.full((1, 3, side, side), _GREY, np.float32)
    try:
        answer = engine.run(grey)[0]
    except Exception as error:  # the engines' errors share no base class
        raise ModelError(f"the model cannot run ({error})", path) from None
    if not np.isfinite(answer).all():
        raise ModelError("the model answers with NaN or infinity", path)
    scores = answer[4:]
    if scores.min(initial=0) < -OVER or scores.max(initial=0) > 1 + OVER:
        raise ModelError(
            f"scores are from {scores.min():g} to {scores.max():g}, expected 0 to 1", path
        )


def main(argv: list[str]) -> int:
    """The child: told path, side and seconds; says on stdout what is wrong with the model."""
    path, side, cpu_s = Path(argv[0]), int(argv[1]), int(argv[2])
    try:
        _import_engine(path)
        _limit(sum(stated_sizes(path).values()), cpu_s)
        first_run(path, side)
    except (ModelError, MemoryError, ImportError) as error:
        print(str(error) or "out of memory")
        return 1
    return 0


def _import_engine(path: Path) -> None:
    """Before the limits: what a library takes for itself is not the model's."""
    if path.suffix == ".onnx":
        silent_onnxruntime()
    else:
        silent_openvino()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
