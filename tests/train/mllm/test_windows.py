"""That a tower sees the same when all windows of one length are attended to at once."""

from typing import Any

import pytest

from train.mllm import windows

GRIDS = ([1, 8, 8], [1, 20, 12], [1, 8, 8], [2, 6, 10])
"""Frames, rows and columns in patches: whole windows of 8 x 8, and parts of one at every border."""


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def tower(request: pytest.FixtureRequest, unchanged_classes: None) -> Any:
    import torch

    torch.manual_seed(3)
    if request.param == "qwen2_5_vl":
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling
        from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

        config = Qwen2_5_VLVisionConfig(
            depth=4, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=24,
            window_size=112, fullatt_block_indexes=[1, 3],
        )  # fmt: skip
        found = modeling.Qwen2_5_VisionTransformerPretrainedModel(config)
    else:
        from transformers.models.qwen3_vl import modeling_qwen3_vl as modeling
        from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig

        config = Qwen3VLVisionConfig(
            depth=4, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=24,
            num_position_embeddings=64, deepstack_visual_indexes=[1], patch_size=14,
        )  # fmt: skip
        found = modeling.Qwen3VLVisionModel(config)
    found.config._attn_implementation = windows.SDPA
    return found


def seen(tower: Any) -> list[Any]:
    """What the tower says of four pictures, and the gradients of its weights."""
    import torch

    torch.manual_seed(4)
    grid = torch.tensor(GRIDS)
    pixels = torch.randn(int(grid.prod(1).sum()), tower.config.in_channels * 2 * 14 * 14)
    tower.zero_grad()
    output = tower(pixels, grid).pooler_output
    output.square().sum().backward()
    given = [weight.grad.clone() for weight in tower.parameters() if weight.grad is not None]
    assert len(given) > 30
    return [output.detach(), *given]


def test_a_tower_sees_the_same_and_learns_the_same(tower: Any) -> None:
    import torch

    before = seen(tower)
    windows.attend_at_once()
    for was, now in zip(before, seen(tower), strict=True):
        torch.testing.assert_close(now, was, rtol=1e-4, atol=1e-5)


def test_windows_of_one_length_are_one_call(tower: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    sizes: list[tuple[int, ...]] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(q: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append((q.shape[0], q.shape[2]))
        return attend(q, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    windows.attend_at_once()  # takes the function that stands there now
    seen(tower)
    whole = {(2, 64), (1, 240), (2, 60)}  # pictures of 8 x 8 patches, 20 x 12, two frames of 6 x 10
    if not hasattr(tower, "fullatt_block_indexes"):
        assert set(sizes) == whole
        assert len(sizes) == 4 * len(whole)
        return
    # Of 8 x 8: one each. Of 20 x 12: two whole, two of 8 x 4, one of 4 x 8, one of 4 x 4; of each
    # frame of 6 x 10 one of 6 x 8 and one of 6 x 2.
    parts = {(4, 64), (3, 32), (1, 16), (2, 48), (2, 12)}
    assert set(sizes) == whole | parts
    assert len(sizes) == 2 * len(whole) + 2 * len(parts)


def test_rows_of_windows_follow_from_where_they_end() -> None:
    import torch

    bounds = torch.tensor([0, 2, 4, 5, 7], dtype=torch.int32)
    of_two, of_one = windows.windows(bounds)
    assert of_two.tolist() == [[0, 1], [2, 3], [5, 6]]
    assert of_one.tolist() == [[4]]
    assert windows.windows(bounds)[0] is of_two
