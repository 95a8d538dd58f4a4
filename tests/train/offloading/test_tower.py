"""The two halves beside Transformers' own forward: the same bits."""

import pytest
import torch
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel as Tower,
)

from dat_runtime.errors import ModelError
from train.mllm.tiny_model import SMALLEST
from train.offloading.tower import cut, head, tail, tower_of

WINDOWED = {**SMALLEST.vision, "depth": 4, "window_size": 56, "fullatt_block_indexes": [1, 3]}
GRIDS = [
    [[1, 8, 8]],
    [[1, 6, 10], [1, 2, 2], [1, 10, 4]],
    [[1, 14, 6], [2, 4, 6]],
]


def tower(config: dict[str, object] = WINDOWED) -> Tower:
    torch.manual_seed(0)
    made = Tower(Qwen2_5_VLVisionConfig(**config)).eval()
    for weight in made.parameters():  # biases of zero would hide where they are added
        torch.nn.init.normal_(weight, std=0.1)
    return made


def patches(grid: torch.Tensor) -> torch.Tensor:
    return torch.randn(int(grid.prod(dim=1).sum()), 1176, generator=torch.manual_seed(1))


@pytest.mark.parametrize("rows", GRIDS)
@pytest.mark.parametrize("block", [0, 1, 2, 3, 4])
@torch.no_grad()
def test_the_halves_give_the_bits_of_the_whole(rows: list[list[int]], block: int) -> None:
    whole, grid = tower(), torch.tensor(rows)
    pixels = patches(grid)
    features = head(whole, pixels, grid, block)
    assert features.shape == (len(pixels), 96)
    assert torch.equal(
        tail(whole, features, grid, block), whole(pixels, grid_thw=grid).pooler_output
    )


@torch.no_grad()
def test_the_tiny_model_of_the_smoke_job_too() -> None:
    whole, grid = tower(SMALLEST.vision), torch.tensor([[1, 8, 8], [1, 4, 12]])
    pixels = patches(grid)
    expected = whole(pixels, grid_thw=grid).pooler_output
    for block in range(3):
        assert torch.equal(tail(whole, head(whole, pixels, grid, block), grid, block), expected)


@torch.no_grad()
def test_features_cross_in_the_order_of_the_patches() -> None:
    """Windows reorder groups inside the tower; what is sent does not depend on them."""
    whole, grid = tower(), torch.tensor([[1, 6, 10]])
    pixels = patches(grid)
    assert torch.equal(head(whole, pixels, grid, 0), whole.patch_embed(pixels))


@torch.no_grad()
def test_between_the_halves_a_change_is_made_and_afterwards_none() -> None:
    whole, grid = tower(), torch.tensor([[1, 8, 8]])
    pixels = patches(grid)
    expected = whole(pixels, grid_thw=grid).pooler_output
    with cut(whole, 2, lambda features, _: features * 2):
        changed = whole(pixels, grid_thw=grid).pooler_output
    assert torch.equal(changed, tail(whole, head(whole, pixels, grid, 2) * 2, grid, 2))
    assert not torch.equal(changed, expected)
    assert torch.equal(whole(pixels, grid_thw=grid).pooler_output, expected)


def test_a_block_that_is_not_there_is_named() -> None:
    grid = torch.tensor([[1, 4, 4]])
    with pytest.raises(ModelError, match="after block 5: the vision tower has 4 blocks"):
        head(tower(), patches(grid), grid, 5)
    with pytest.raises(ModelError, match="after block -1"):
        tail(tower(), torch.zeros(16, 96), grid, -1)


def test_a_model_without_such_a_tower_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no vision tower of Qwen2\.5-VL"):
        tower_of(torch.nn.Linear(2, 2))
