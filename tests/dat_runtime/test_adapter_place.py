"""An adapter loads whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dat_runtime.adapter import CONFIG, WEIGHTS, read_adapter
from dat_runtime.adapter_place import demand_whole
from dat_runtime.errors import ModelError
from tests.conftest import LORA_MODULE, lora_tensors, safetensors

HERE = "model.language_model.layers.0.self_attn.q_proj"
BASE = (HERE, HERE.replace("q_proj", "k_proj"), "model.visual.blocks.0.attn.proj")


def adapter(make_lora: Callable[..., Path], *modules: str) -> Path:
    """An adapter of q_proj for the given modules, as `read_adapter` takes it."""
    tensors = {
        name.replace(LORA_MODULE, f"base_model.model.{module}"): value
        for module in modules
        for name, value in lora_tensors().items()
    }
    folder = make_lora(weights=safetensors(tensors))
    read_adapter(folder)
    return folder


def test_every_module_of_the_file_and_of_its_targets_has_to_be_there(make_lora) -> None:
    demand_whole(adapter(make_lora, HERE), BASE)


@pytest.mark.parametrize(
    "other", ["model.layers.0.self_attn.q_proj", "language_model.model.layers.0.self_attn.q_proj"]
)
def test_weights_under_other_names_are_refused_by_name(make_lora, other: str) -> None:
    with pytest.raises(ModelError, match=rf"1 of 1 modules have no place in the base, .*{other}"):
        demand_whole(adapter(make_lora, other), BASE)
    with pytest.raises(ModelError, match=rf"1 of 2 modules have no place in the base, .*{other}"):
        demand_whole(adapter(make_lora, HERE, other), BASE)


def test_one_layer_of_four_is_refused(make_lora) -> None:
    layers = [HERE.replace(".0.", f".{number}.") for number in range(4)]
    with pytest.raises(ModelError, match=r"nothing for 3 of 4 modules .*layers\.1\.self_attn"):
        demand_whole(adapter(make_lora, layers[0]), layers)


def test_both_refusals_name_the_file_what_is_wrong_and_what_to_do(make_lora) -> None:
    folder = adapter(make_lora, *(f"model.layers.{number}.q_proj" for number in range(4)))
    with pytest.raises(ModelError) as lost:
        demand_whole(folder, BASE)
    assert str(lost.value) == (
        f"{folder / WEIGHTS}: 4 of 4 modules have no place in the base, such as "
        "model.layers.0.q_proj, model.layers.1.q_proj, model.layers.2.q_proj: they would be left "
        "out. Name them as Transformers does (model.language_model.layers.0.self_attn.q_proj), or "
        "train the adapter for this base"
    )
    loaded = {f"model.layers.{number}.q_proj" for number in range(5)}
    with pytest.raises(ModelError) as absent:
        demand_whole(folder, loaded)
    assert str(absent.value) == (
        f"{folder / WEIGHTS}: holds nothing for 1 of 5 modules that its target_modules name, such "
        "as model.layers.4.q_proj: a part of the adapter is missing"
    )


def test_what_is_no_adapter_any_more_is_refused_by_its_file(make_lora) -> None:
    folder = adapter(make_lora, HERE)
    (folder / CONFIG).write_text('{"r": 2}')
    with pytest.raises(ModelError) as refused:
        demand_whole(folder, BASE)
    place = folder / WEIGHTS
    assert str(refused.value) == f"{place}: is not a LoRA adapter of PEFT ('target_modules')"
    (folder / CONFIG).write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        demand_whole(folder, BASE)
