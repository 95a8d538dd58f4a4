"""The sizes of Qwen2.5-VL, in each form in which its config.json states them."""

import pytest

from dat_runtime.errors import ConfigError
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.qwen2_5_vl import Text, Vision

TEXT = {name: value for name, value in SEVEN_B.items() if name != "vision_config"}


def test_the_7b_has_these_sizes() -> None:
    text, vision = read_model(SEVEN_B)
    assert text == Text(
        hidden=3584,
        layers=28,
        heads=28,
        queries=3584,
        keys=512,
        inner=18944,
        vocabulary=152064,
        tied=False,
    )
    assert vision == Vision(depth=32, hidden=1280, heads=16, inner=3420, out=3584, merge=2)
    assert text.linear + text.other + vision.linear + vision.other == 8_292_166_656


def test_both_forms_of_a_configuration_are_read() -> None:
    nested = {"text_config": TEXT, "vision_config": SEVEN_B["vision_config"]}
    assert read_model(nested) == read_model(SEVEN_B)
    wide = Text.read({"text_config": {**TEXT, "head_dim": 256}})
    assert (wide.queries, wide.keys, wide.head) == (28 * 256, 4 * 256, 256)
    assert isinstance(Text.read(TEXT).queries, int)


@pytest.mark.parametrize(
    ("above", "within", "tied"),
    [
        ({}, {}, False),
        ({}, {"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": True}, {}, True),
        ({"tie_word_embeddings": False}, {"tie_word_embeddings": True}, False),
    ],
)
def test_embeddings_are_tied_as_the_configuration_says_first(above, within, tied) -> None:
    text = {name: value for name, value in TEXT.items() if name != "tie_word_embeddings"}
    found = Text.read({**above, "text_config": {**text, **within}})
    assert found.tied is tied
    heads = 1 if tied else 2
    assert found.other == heads * 152064 * 3584 + 28 * (3584 + 2 * 512 + 2 * 3584) + 3584


def test_four_patches_are_merged_unless_another_number_is_stated() -> None:
    tower = SEVEN_B["vision_config"]
    assert Vision.read({"vision_config": {**tower, "spatial_merge_size": 3}}).merge == 3
    unstated = {name: value for name, value in tower.items() if name != "spatial_merge_size"}
    assert Vision.read({"vision_config": unstated}).merge == 2
    with pytest.raises(KeyError, match="depth"):
        Vision.read(TEXT)


def test_a_size_that_is_not_stated_is_named() -> None:
    without = {name: value for name, value in SEVEN_B.items() if name != "vocab_size"}
    with pytest.raises(ConfigError) as refused:
        read_model(without)
    assert str(refused.value) == (
        "config.json is not that of qwen2_5_vl: KeyError('vocab_size') is missing"
    )
