"""The half that a node runs: the learner's own, without what comes after the cut."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dat_runtime.errors import ModelError
from tests.train.offloading.test_tower import patches, tower
from train.offloading import node_graph
from train.offloading.codec import Codec, Shape
from train.offloading.tower import head

GRID = (4, 6)


def learner_of(block: int, seed: int = 2) -> Any:
    torch.manual_seed(seed)
    codec = Codec(Shape(features=96, channels=8, width=16, spatial=True)).train()
    whole = tower()
    whole.config._attn_implementation = "sdpa"
    return SimpleNamespace(tower=whole, codec=codec, settings=SimpleNamespace(block=block))


@torch.no_grad()
def test_a_node_has_the_blocks_before_the_cut_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_of(block=2)
    half = node_graph.node_half(learner, GRID)
    kinds = [type(block).__name__ for block in half.tower.blocks]
    assert kinds == ["Qwen2_5_VLVisionBlock"] * 2 + ["Identity"] * 2
    assert type(half.tower.merger) is torch.nn.Identity
    assert type(learner.tower.merger) is not torch.nn.Identity
    assert not half.training
    assert learner.codec.training
    assert not any(weight.requires_grad for weight in half.parameters())
    assert all(weight.requires_grad for weight in learner.codec.parameters())
    assert half.tower.config._attn_implementation == "eager"
    assert half.grid_thw.tolist() == [[1, 4, 6]]
    pixels = patches(half.grid_thw)
    bits = half(pixels)
    assert (bits.shape, bits.dtype) == ((8, 6), torch.uint8)
    expected = learner.codec.bits(head(learner.tower, pixels, half.grid_thw, 2)).T
    assert (bits.bool() != expected).sum() <= 1  # summed in another order


def test_a_graph_answers_as_torch_and_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = node_graph.node_half(learner_of(block=1), GRID)
    path = tmp_path / "encoder.onnx"
    node_graph.export(half, path)
    made = patches(torch.tensor([[2, *GRID]])).split(24)
    monkeypatch.setattr(node_graph, "pictures", lambda _, samples: (samples[0], None))
    assert node_graph.compare(half, path, None, made) == {"bits": 2 * 8 * 6, "differing": 0}
    import onnx

    graph = onnx.load(path)
    assert graph.opset_import[0].version == 17
    assert [value.name for value in graph.graph.input] == ["patches"]
    assert [value.name for value in graph.graph.output] == ["bits"]
    other = node_graph.node_half(learner_of(block=1, seed=3), GRID)
    with pytest.raises(ModelError) as refused:
        node_graph.compare(other, path, None, made)
    told = str(refused.value)
    assert told.startswith("encoder.onnx: ")
    assert told.endswith(" of 96 bits differ from torch's: the export is wrong")
