import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from dat_runtime.errors import ModelError  # noqa: E402
from eval.proving.quantised import _round_tokens  # noqa: E402
from export.forms.fp8 import LARGEST, QUANTISATION, _change, quantise, to_fp8  # noqa: E402
from export.forms.merging import Update, merged, weight_name  # noqa: E402


def test_a_weight_keeps_four_bits_and_its_largest_value() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 64)
    rounded, scale = to_fp8(weight)
    assert rounded.dtype == torch.float8_e4m3fn
    assert (scale.shape, scale.dtype) == ((8, 1), torch.bfloat16)
    back = rounded.float() * scale.float()
    # 3 bits behind the first: half a step is 1/16; the scale's own rounding is 1/256 more.
    big = weight.abs() > weight.abs().amax(1, keepdim=True) / 64
    assert ((back - weight).abs() / weight.abs())[big].max() <= 1 / 16 + 1 / 256
    assert rounded.float().abs().max() <= LARGEST


def test_a_row_of_zeros_stays_zero() -> None:
    rounded, scale = to_fp8(torch.zeros(2, 4))
    assert not (rounded.float() * scale.float()).any()


@pytest.mark.parametrize(
    ("name", "is_quantised"),
    [
        ("model.layers.0.self_attn.q_proj.weight", True),
        ("model.language_model.layers.11.mlp.down_proj.weight", True),
        ("model.layers.0.self_attn.q_proj.bias", False),
        ("model.embed_tokens.weight", False),
        ("visual.blocks.0.mlp.gate_proj.weight", False),
        ("lm_head.weight", False),
    ],
)
def test_only_linear_layers_of_the_language_model_are_quantised(
    name: str, is_quantised: bool
) -> None:
    assert (f"{name}_scale" in _change(name, torch.ones(2, 2))) == is_quantised


def test_activations_are_rounded_per_token() -> None:
    states = torch.tensor([[1.0, 0.5], [1000.0, 1.0]])
    (rounded,) = _round_tokens(None, (states,))
    assert torch.allclose(rounded[0], states[0])
    assert rounded[1].tolist() == pytest.approx([1000, 1], rel=1 / 16)


def test_an_update_is_added_in_float32_and_rounded_once() -> None:
    """1 + 3 x 2^-10 in steps of bfloat16 would stay 1; the sum rounds up."""
    update = Update(torch.full((1, 1), 3 * 2.0**-9), torch.ones(1, 1), 1.0)
    assert merged(torch.ones(1, 1), update).item() == 1 + 2.0**-7
    assert merged(torch.tensor([7]), None).dtype == torch.int64


def test_a_module_is_found_under_the_hubs_name_or_refused() -> None:
    names = {"model.layers.0.self_attn.q_proj.weight", "model.language_model.x.weight"}
    found = weight_name("model.language_model.layers.0.self_attn.q_proj", names, Path("a"))
    assert found == "model.layers.0.self_attn.q_proj.weight"
    assert (
        weight_name("model.language_model.x", names, Path("a")) == "model.language_model.x.weight"
    )
    with pytest.raises(ModelError, match=r"tunes model\.visual\.y, which the base has not"):
        weight_name("model.visual.y", names, Path("a"))


def test_a_row_is_scaled_so_that_its_largest_is_the_largest_of_float8() -> None:
    rounded, scale = to_fp8(torch.tensor([[448.0, -224.0, 1.0], [-0.5, 0.25, 0.0]]).bfloat16())
    assert rounded.float().tolist() == [[448, -224, 1], [-448, 224, 0]]
    assert scale.tolist() == [[1.0], [torch.tensor(0.5 / 448).bfloat16().item()]]


def test_a_merged_model_is_quantised_with_its_configuration(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    merged, folder, said = tmp_path / "merged", tmp_path / "fp8", []
    for made in (merged, folder):
        made.mkdir()
    torch.manual_seed(0)
    name = "model.layers.0.mlp.up_proj.weight"
    weights = {name: torch.randn(4, 8).bfloat16(), "lm_head.weight": torch.randn(4, 8).bfloat16()}
    save_file(weights, merged / "model.safetensors")
    (merged / "config.json").write_text('{"model_type": "x"}')
    quantise(merged, folder, said.append)
    assert said == ["file 1 of 1 written"]
    config = json.loads((folder / "config.json").read_text())
    assert config == {"model_type": "x", "quantization_config": QUANTISATION}
    found = load_file(folder / "model.safetensors")
    rounded, scale = to_fp8(weights[name])
    assert sorted(found) == sorted([*weights, f"{name}_scale"])
    assert torch.equal(found[name].float(), rounded.float())
    assert torch.equal(found[f"{name}_scale"], scale)
    assert torch.equal(found["lm_head.weight"], weights["lm_head.weight"])
