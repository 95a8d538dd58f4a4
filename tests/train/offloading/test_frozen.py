"""The base and adapter that a codec is made for belong together, and stay as they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, ModelError
from tests.conftest import write_lora
from train.offloading.frozen import Backbone, backbone_of, load_frozen

COMMIT = "a" * 40


def test_a_base_in_a_folder_is_stated_by_its_name_and_content(base: Path) -> None:
    backbone = backbone_of(str(base), None, None)
    digest = manifest.digest(base, "base")
    assert backbone == Backbone(str(base), "base", digest, None)
    assert backbone.is_folder
    assert backbone.as_json() == {"base": "base", "revision": digest, "adapter": None}


def test_an_adapter_states_its_base_and_takes_no_other(base: Path, tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora", base)
    digest = manifest.digest(base)
    backbone = backbone_of(str(base), adapter, None)
    assert backbone == Backbone(str(base), "base", digest, adapter)
    own = manifest.digest(adapter)
    assert backbone.as_json() == {"base": "base", "revision": digest, "adapter": own}

    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "bos_token_id": 1}))
    found = manifest.digest(base, "base")
    with pytest.raises(ModelError) as refused:
        backbone_of(str(base), adapter, None)
    assert str(refused.value) == (
        f"{adapter} was trained for base at revision {digest}, {base} is another base: it has the "
        f"digest {found}. Use the base that it was trained for, or train it again"
    )


def test_a_base_of_the_hub_is_pinned_by_the_configuration_or_the_adapter(
    base: Path, tmp_path: Path
) -> None:
    assert backbone_of("Some/Base", None, COMMIT) == Backbone(
        "Some/Base", "Some/Base", COMMIT, None
    )
    assert not backbone_of("Some/Base", None, COMMIT).is_folder
    with pytest.raises(ConfigError, match="is 'main': pin the 40-digit commit"):
        backbone_of("Some/Base", None, None)
    stated = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
        "base_model_name_or_path": "Some/Base", "revision": COMMIT,
    }  # fmt: skip
    adapter = write_lora(tmp_path / "lora", base, config=json.dumps(stated))
    expected = Backbone("Some/Base", "Some/Base", COMMIT, adapter)
    assert backbone_of("Some/Base", adapter, None) == expected
    assert backbone_of("Some/Base", adapter, COMMIT) == expected
    for name, revision in (("Some/Other", None), ("Some/Base", "b" * 40)):
        with pytest.raises(ModelError) as refused:
            backbone_of(name, adapter, revision)
        asked = f"{name} at {revision or COMMIT} is asked for"
        assert f"{name} is another base: {asked}. Use the base" in str(refused.value)


@pytest.mark.parametrize(("on_card", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_a_model_is_loaded_at_its_revision_and_never_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_card: bool, dtype: torch.dtype
) -> None:
    """In place of gigabytes of weights, one layer."""
    asked: list[Any] = []
    model = torch.nn.Linear(2, 2)
    placed: list[str] = []
    monkeypatch.setattr(model, "to", lambda place: placed.append(place) or model)

    def loader(made: Any) -> Any:
        return lambda *a, **k: asked.append((a, k)) or made

    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_card)
    monkeypatch.setattr(AutoProcessor, "from_pretrained", loader("processor"))
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", loader(model))
    found, processor = load_frozen(Backbone("Some/Base", "Some/Base", COMMIT, None))
    assert (found, processor, placed) == (model, "processor", ["cuda" if on_card else "cpu"])
    given = {"revision": COMMIT, "dtype": dtype, "attn_implementation": "sdpa"}
    assert asked == [(("Some/Base",), {"revision": COMMIT}), (("Some/Base",), given)]
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    load_frozen(Backbone(str(tmp_path), "base", "0" * 64, None))
    assert [keys["revision"] for _, keys in asked[2:]] == [None, None]


def test_a_model_or_adapter_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    for kind in (AutoProcessor, AutoModelForImageTextToText):
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, **__: "made")

    def refuse(model: Any, path: str) -> None:
        raise ValueError(f"{model} with {path}")

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", refuse)
    with pytest.raises(ConfigError) as refused:
        load_frozen(Backbone("Some/Base", "Some/Base", COMMIT, tmp_path))
    assert str(refused.value) == f"cannot load Some/Base: made with {tmp_path}"
