"""Qwen3-VL beside Qwen2.5-VL: weights, memory, what a training leaves out, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import lora_memory
from dat_runtime import manifest
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.family import BY_TEMPLATE, FAMILIES, QWEN2_5_VL, QWEN3_VL
from dat_runtime.stage import Stage
from tests.task_texts import task_texts
from train.mllm import preflight, resources, tiny_qwen3_vl, upstream
from train.mllm.families import MODULES
from train.mllm.memory import trained_weights
from train.mllm.model_sizes import read_model
from train.mllm.run_settings import RunSettings, read_settings

CONFIG = Path("configs/lora/qwen3_vl.yaml")
EIGHT_B: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": False,
    "text_config": {
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "vocab_size": 151936,
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "num_heads": 16,
        "intermediate_size": 4304,
        "out_hidden_size": 4096,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}
"""The sizes in config.json of Qwen3-VL-8B-Instruct."""


def test_every_family_has_a_module_for_its_training() -> None:
    assert MODULES.keys() == FAMILIES.keys()


def test_the_8b_has_the_weights_that_its_files_hold() -> None:
    text, vision = read_model(EIGHT_B)
    assert text.linear + text.other + vision.linear + vision.other == 8_767_123_696
    settings = read_settings(yaml.safe_load(CONFIG.read_text()))
    assert trained_weights(text, vision, settings) == 43_646_976


def test_the_recipe_is_that_of_the_default_base_but_for_the_family() -> None:
    ours, boxed = (
        yaml.safe_load(path.read_text()) for path in (CONFIG, CONFIG.with_name("boxed.yaml"))
    )
    differing = {key for key in boxed.keys() | ours.keys() if boxed.get(key) != ours.get(key)}
    paths = {"model_name_or_path", "dataset_dir", "media_dir", "output_dir"}
    assert differing == {*paths, "model_revision", "template", "image_min_pixels"}
    assert ours["image_min_pixels"] == QWEN3_VL.least_pixels


def test_no_training_begins_before_the_8b_is_pinned() -> None:
    settings = read_settings(yaml.safe_load(CONFIG.read_text()))
    with pytest.raises(ConfigError, match=r"model_revision is 'main': pin .* of Qwen/Qwen3-VL-8B"):
        preflight.base_folder(settings)


@pytest.mark.parametrize("template", BY_TEMPLATE)
def test_a_base_of_another_family_than_the_template_is_refused(
    tmp_path: Path, template: str
) -> None:
    settings = RunSettings(model_name_or_path=str(tmp_path), template=template)
    for family in FAMILIES.values():
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family.name}))
        if family is settings.family:
            assert preflight.base_folder(settings) == tmp_path
            continue
        for look in (preflight.base_folder, resources.model_sizes):
            with pytest.raises(ModelError, match=f"'{family.name}', expected .*{template[:5]}"):
                look(settings)


@pytest.mark.parametrize("template", BY_TEMPLATE)
def test_instructions_in_the_words_of_another_family_are_refused(
    tmp_path: Path, template: str
) -> None:
    settings = RunSettings(dataset_dir=str(tmp_path / "made"), template=template)
    for family in FAMILIES.values():
        versions = (*manifest.VERSIONS, family.name)
        with Stage(tmp_path / "made", kind="instructions", inputs={}, config={}, versions=versions):
            pass
        if family is settings.family:
            preflight.demand_prompts(settings)
            continue
        with pytest.raises(ConfigError, match=f"instruct --family {settings.family.name}"):
            preflight.demand_prompts(settings)
    assert replace(settings, template=None).family is QWEN2_5_VL


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen3"
    folder.mkdir()
    tiny_qwen3_vl.build(folder, task_texts(0, 50), 400, 2 * QWEN3_VL.least_pixels, seed=0)
    return folder


@pytest.mark.slow
def test_the_tiny_one_is_of_the_same_classes_and_has_the_weights_that_are_counted(
    base: Path,
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(base)
    assert type(model).__name__ == MODULES[QWEN3_VL.name].MODEL
    assert type(model.model.visual).__name__ == MODULES[QWEN3_VL.name].TOWER
    text, vision = read_model(json.loads((base / "config.json").read_text()))
    counted = text.linear + text.other + vision.linear + vision.other
    assert counted == sum(weight.numel() for weight in model.parameters())
    images = AutoProcessor.from_pretrained(base).image_processor
    assert images.patch_size * images.merge_size == QWEN3_VL.unit
    assert images.size["shortest_edge"] == QWEN3_VL.least_pixels


@pytest.mark.slow
def test_a_frozen_tower_and_unlearnt_logits_are_left_out_and_gradients_stay(
    base: Path, unchanged_classes: None
) -> None:
    import torch
    from transformers import Qwen3VLForConditionalGeneration as Model

    model = Model.from_pretrained(base)
    model.model.visual.requires_grad_(False)
    model.enable_input_require_grads()
    model.train()
    torch.manual_seed(0)
    ids = torch.randint(300, 390, (1, 24))
    image = model.config.image_token_id
    ids[0, 2:18] = image
    labels = ids.clone()
    labels[0, :19] = upstream.UNLEARNT
    given = {
        "input_ids": ids,
        "labels": labels,
        "mm_token_type_ids": (ids == image).int(),
        # As under gradient checkpointing, where the tower's input may ask for a gradient.
        "pixel_values": torch.randn(64, 3 * 2 * 16 * 16, requires_grad=True),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
    }
    seen: list[Any] = []
    model.model.visual.register_forward_hook(lambda _, i, out: seen.append(out.pooler_output))
    model.lm_head.register_forward_hook(lambda _, i, logits: seen.append(logits))
    steps = []
    for _ in range(2):
        model.zero_grad()
        loss = model(**given).loss
        loss.backward()
        grads = [p.grad.clone() for p in model.model.language_model.parameters()]
        steps.append([loss.detach(), *grads])
        upstream.leave_out_frozen_towers()
        upstream.leave_out_unlearnt_logits()
    assert [seen[0].requires_grad, seen[2].requires_grad] == [True, False]
    assert [seen[1].shape[:-1].numel(), seen[3].shape[:-1].numel()] == [24, 5]
    for whole, learnt in zip(*steps, strict=True):
        torch.testing.assert_close(learnt, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [True, False])
def test_estimate_and_measurement_agree_within_five_percent(checkpointing: bool) -> None:
    text = {
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 48,
        "intermediate_size": 1024,
        "vocab_size": 1024,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [8, 8, 8],
        },
    }
    vision = {
        "depth": 4,
        "hidden_size": 160,
        "num_heads": 4,
        "intermediate_size": 400,
        "out_hidden_size": 256,
        "spatial_merge_size": 2,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0, 1],
    }
    sizes = {**EIGHT_B, "text_config": text, "vision_config": vision}
    case = lora_memory.Case("test", sizes, 2, 250, (10, 10), checkpointing=checkpointing)
    with lora_memory.forward_as_in(case):
        measured = lora_memory.measure(case, "cpu").peak
    assert measured == pytest.approx(case.estimated(cuda=False).peak, rel=0.05)
