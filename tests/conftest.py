"""Builders of small stage folders, for tests of whoever reads them."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from dat_runtime.manifest import digest
from dat_runtime.stage import Stage

# How long an example takes depends on what else the machine does, and is no property of the code.
settings.register_profile("dat", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dat")

# Read when it is imported, by whichever test comes first: nothing is installed here.
os.environ["YOLO_AUTOINSTALL"] = "false"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes seconds begins first, so that two test processes end at the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


SIDE = 64
ANCHORS = 64 + 16 + 4
LORA_MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def constant_gate(rows: list[list[float]]) -> bytes:
    """An ONNX detector that answers every picture with the same rows (cx, cy, w, h, scores)."""
    onnx = pytest.importorskip("onnx")
    answer = np.zeros((1, 6, ANCHORS), np.float32)
    answer[0, :, : len(rows)] = np.array(rows, np.float32).T
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(
                "Constant", [], ["output0"], value=onnx.numpy_helper.from_array(answer)
            )
        ],
        "constant",
        [onnx.helper.make_tensor_value_info("images", 1, [1, 3, SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("output0", 1, list(answer.shape))],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def safetensors(tensors: dict[str, np.ndarray], **changes: Any) -> bytes:
    """A safetensors file of float32 tensors; `changes` replace entries of its header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        content = tensor.astype("<f4").tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += content
    text = json.dumps(header | changes).encode()
    return struct.pack("<Q", len(text)) + text + data


def lora_tensors(rank: int = 2) -> dict[str, np.ndarray]:
    return {
        f"{LORA_MODULE}.lora_A.weight": np.ones((rank, 8)),
        f"{LORA_MODULE}.lora_B.weight": np.ones((4, rank)),
    }


def write_gate(out: Path) -> Path:
    """As `train.gate` leaves it: it sees one severe accident in the middle of every frame."""
    stated = {
        "version": 2,
        "model": "gate.onnx",
        "classes": ["moderate", "severe"],
        "imgsz": SIDE,
        "nms_iou": 0.7,
        "keep": 0.25,
        "low": 0.25,
        "high": None,
        "calibration": None,
        "budget": None,
    }
    with Stage(out, kind="gate", inputs={}, config={}) as folder:
        (folder / "gate.json").write_text(json.dumps(stated))
        (folder / "gate.onnx").write_bytes(constant_gate([[32, 32, 16, 8, 0.1, 0.9]]))
        (folder / "best.pt").write_bytes(b"not for the field")
    return out


def write_base(out: Path) -> Path:
    with Stage(out, kind="base", inputs={}, config={}) as folder:
        (folder / "config.json").write_text("{}")
    return out


def write_lora(out: Path, base: Path, **files: str | bytes) -> Path:
    """An adapter folder as `train.lora` leaves it; keywords replace a file's content."""
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "base",
        "revision": digest(base),
    }
    contents: dict[str, str | bytes] = {
        "adapter_model.safetensors": safetensors(lora_tensors()),
        "adapter_config.json": json.dumps(config),
        "README.md": "---\nbase_model: base\n---\n# Adapter\n",
        "config.yaml": "image_max_pixels: 12544\n",
    }
    named = {"weights": "adapter_model.safetensors", "config": "adapter_config.json"}
    contents |= {named.get(k, k): v for k, v in files.items()}
    stated = {"instructions": {"classes": ["moderate", "severe"]}}
    with Stage(out, kind="lora", inputs={"base": base}, config=stated) as folder:
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / name).write_bytes(data)
    return out


@pytest.fixture
def gate_folder(tmp_path: Path) -> Path:
    return write_gate(tmp_path / "gate")


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def make_lora(tmp_path: Path, base_folder: Path) -> Callable[..., Path]:
    """Makes an adapter folder as `train.lora` leaves it; keywords replace a file's content."""
    return partial(write_lora, tmp_path / "lora-boxed", base_folder)


@pytest.fixture(scope="session")
def made_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle, made by `export.bundle`, for copies: its gate is tried in a process."""
    from export.bundle import make_bundle

    folder = tmp_path_factory.mktemp("made")
    gate, base = write_gate(folder / "gate"), write_base(folder / "base")
    make_bundle(gate, write_lora(folder / "lora-boxed", base), str(base), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def bundle_folder(
    tmp_path: Path, made_bundle: Path, gate_folder: Path, make_lora: Callable[..., Path]
) -> Path:
    """A copy of a whole bundle; what it is made of lies beside it."""
    make_lora()
    shutil.copytree(made_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instructions, a tiny base and an adapter that was trained on it for a few steps.

    For copies: whoever proves or exports it writes beside it. Who uses it is of one group, so that
    one test process trains it.
    """
    from tests.eval.proved_adapter import build

    return build(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def learnt_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base that gives one answer to whatever it is shown; for one group too."""
    from tests.eval.test_weak_node import learn_by_heart

    out = tmp_path_factory.mktemp("learnt") / "base"
    with Stage(out, kind="base", inputs={}, config={}) as folder:
        learn_by_heart(folder)
    return out


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder as `train.base` leaves it, untrained, for pictures of 112 x 112 at most."""
    from tests.task_texts import task_texts
    from train.mllm import tiny_model

    out = tmp_path_factory.mktemp("models") / "base"
    with Stage(out, kind="base", inputs={}, config={}) as folder:
        tiny_model.build(folder, task_texts(0, 50), 400, 112 * 112, seed=0)
    return out


@pytest.fixture(scope="session")
def boxed_instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a codec learns from."""
    from tests.train.offloading.small_codec import write_instructions

    return write_instructions(tmp_path_factory.mktemp("data") / "instructions")


def codec_of(base: Path, instructions: Path, factory: pytest.TempPathFactory) -> Path:
    from tests.train.offloading.small_codec import arguments
    from train import offload

    out = factory.mktemp("codecs") / "codec"
    assert offload.main(arguments(base, instructions, out)) == 0
    return out


@pytest.fixture(scope="session")
def codec_folder(
    tiny_base: Path, boxed_instructions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As `train.offload` leaves it, of the tiny base; for one group too."""
    return codec_of(tiny_base, boxed_instructions, tmp_path_factory)


@pytest.fixture(scope="session")
def learnt_codec(
    learnt_base: Path, boxed_instructions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same, of the base that has learnt one answer."""
    return codec_of(learnt_base, boxed_instructions, tmp_path_factory)
