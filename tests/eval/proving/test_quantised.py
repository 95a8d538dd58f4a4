"""A quantised model as a server computes it, on two layers small enough to reckon."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dat_runtime.errors import ModelError
from eval.proving import quantised
from eval.proving.quantised import is_quantised, load_quantised, stored_names

pytestmark = pytest.mark.slow  # torch takes seconds to import


def test_only_a_configuration_with_its_key_is_quantised(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {}}')
    assert is_quantised(tmp_path)
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    assert not is_quantised(tmp_path)


def test_a_weight_may_have_its_old_name() -> None:
    assert list(stored_names("model.language_model.x")) == [
        *("model.language_model.x", "model.x"),
    ]
    assert list(stored_names("model.visual.x")) == ["model.visual.x", "visual.x"]
    assert list(stored_names("lm_head.weight")) == ["lm_head.weight"]


class Base(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.ModuleDict(
            {"visual": torch.nn.Linear(2, 2, bias=False), "head": torch.nn.Linear(2, 1)}
        )


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Base:
    made = Base()

    def load(*given: Any) -> Any:
        assert given == ("base", "r1", None)
        return SimpleNamespace(model=made)

    monkeypatch.setattr(quantised, "load", load)
    return made


WEIGHTS = {
    "visual.weight": torch.tensor([[1.0, -2.0], [448.0, 0.0]]).to(torch.float8_e4m3fn),
    "visual.weight_scale": torch.tensor([[0.5], [0.25]]),
    "model.head.weight": torch.tensor([[3.0, 4.0]]),
    "model.head.bias": torch.tensor([5.0]),
}


def write(folder: Path, **changes: Any) -> Path:
    weights = {name: value for name, value in (WEIGHTS | changes).items() if value is not None}
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:2]}, folder / "a.safetensors")
    save_file({name: weights[name] for name in names[2:]}, folder / "b.safetensors")
    return folder


def test_weights_are_multiplied_out_and_what_enters_is_rounded(base: Base, tmp_path: Path) -> None:
    loaded = load_quantised(write(tmp_path), "base", "r1")
    assert loaded.model is base
    layer, head = base.model["visual"], base.model["head"]
    assert layer.weight.tolist() == [[0.5, -1.0], [112.0, 0.0]]
    assert (head.weight.tolist(), head.bias.tolist()) == ([[3, 4]], [5])
    # The largest of a token becomes 448; of 3 significant bits behind the first, 1 of 448 is kept.
    given = torch.tensor([[448.0, 1.0], [4.48, 4.4], [0.0, 0.0]])
    rounded = torch.tensor([[448.0, 1.0], [4.48, 4.48], [0.0, 0.0]])
    assert torch.allclose(layer(given), rounded @ layer.weight.T)
    assert torch.allclose(head(given), given @ head.weight.T + 5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.head.bias": None}, "holds no model.head.bias"),
        ({"visual.weight": None}, "holds no model.visual.weight"),
        ({"other": torch.ones(1), "zzz": torch.ones(1)}, "other belongs to no layer"),
        ({"model.head.bias": torch.ones(2)}, r"model.head.bias is \[2\]"),
        ({"visual.weight": torch.ones(2, 3)}, r"visual.weight is \[2, 3\]"),
    ],
)
def test_weights_that_are_not_those_of_the_base_are_named(
    base: Base, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelError, match=f"{tmp_path}.*{told}"):
        load_quantised(write(tmp_path, **changes), "base", "r1")
