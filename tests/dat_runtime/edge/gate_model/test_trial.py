"""The first run in a child: what the file could not tell is found out there, and harms nobody."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.edge.gate_model.trial import Trial
from dat_runtime.errors import ModelError
from tests.dat_runtime.edge.gate_model.hostile_models import SIDE, endless, huge, one_node

onnx = pytest.importorskip("onnx")

ROOT = Path(__file__).parents[4]


def answering(value: float) -> bytes:
    """A detector that answers every picture with one number."""
    answer = onnx.numpy_helper.from_array(np.full((1, 6, 84), value, np.float32))
    return one_node(onnx.helper.make_node("Constant", [], ["output0"], value=answer), {})


def tried(folder: Path, model: bytes, cpu_s: int = 30) -> None:
    (folder / "gate.onnx").write_bytes(model)
    with Trial(folder / "gate.onnx", SIDE, cpu_s) as trial:
        trial.demand()


def test_a_sound_model_passes_and_an_early_end_leaves_no_child(tmp_path: Path) -> None:
    tried(tmp_path, answering(0.5))
    with Trial(tmp_path / "gate.onnx", SIDE) as trial:
        assert trial._child.poll() is None
    assert trial._child.poll() is not None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: b"no model", "gate.onnx: not a model that ONNX Runtime can load"),
        (lambda: answering(float("nan")), "answers with NaN or infinity"),
        (lambda: answering(5.0), "scores are from 5 to 5, expected 0 to 1"),
        (lambda: answering(-0.5), "scores are from -0.5 to -0.5"),
    ],
)
def test_what_is_wrong_with_the_model_reaches_the_caller(
    tmp_path: Path, model: Callable[[], bytes], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        tried(tmp_path, model())


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
@pytest.mark.parametrize(("model", "cpu_s"), [(endless, 1), (huge, 30)])
def test_time_and_memory_of_the_child_are_limited(
    tmp_path: Path, model: Callable[[], bytes], cpu_s: int
) -> None:
    with pytest.raises(
        ModelError, match=r"a first run in a process of its own failed: .*gate\.onnx"
    ):
        tried(tmp_path, model(), cpu_s)


def test_a_system_without_resource_limits_opens_bundles_too() -> None:
    """Windows has no module `resource`."""
    code = "import sys; sys.modules['resource'] = None; import dat_runtime.edge.bundle"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
