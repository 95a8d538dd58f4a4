"""The shipped configurations for LLaMA-Factory and DeepSpeed: a wrong key shows."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dat_runtime.draw import MAX_PIXELS
from dat_runtime.family import BY_TEMPLATE

CONFIGS = Path("configs/lora")
YAMLS = sorted(CONFIGS.glob("*.yaml"))
PAPER = ("boxed.yaml", "raw.yaml")
DEEPSPEED = sorted((CONFIGS / "deepspeed").glob("*.json"))
QUANTIZED = {"quantization_bit", "quantization_method", "quantization_type", "double_quantization"}


@pytest.mark.slow
@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.name)
def test_every_configuration_begins_with_its_command_and_is_read_by_llama_factory(path, tmp_path):
    from llamafactory.hparams import get_train_args

    assert path.read_text().startswith("# python -m train.")
    config = yaml.safe_load(path.read_text())
    own = {"output_dir": str(tmp_path / "none"), "use_cpu": True}

    model, data, training, finetuning, _ = get_train_args({**config, **own})

    assert data.template in BY_TEMPLATE
    assert training.seed == 7
    if path.name in PAPER:
        assert (training.learning_rate, data.cutoff_len, training.bf16) == (5e-5, 4096, True)
        assert (finetuning.lora_rank, finetuning.lora_alpha) == (16, 32)
        assert len(model.model_revision) == 40
        assert model.image_max_pixels == MAX_PIXELS


def test_boxed_and_raw_differ_by_their_data_alone():
    boxed, raw = (yaml.safe_load(Path("configs/lora", name).read_text()) for name in PAPER)
    assert {k for k in boxed if boxed[k] != raw[k]} == {"dataset", "output_dir"}


def test_there_are_configurations_for_several_gpus() -> None:
    assert {path.name for path in DEEPSPEED} == {"zero2.json", "zero3.json"}


def test_the_small_card_takes_the_recipe_of_the_large_one_in_four_bits() -> None:
    large, small = (
        yaml.safe_load((CONFIGS / name).read_text()) for name in ("boxed.yaml", "qlora.yaml")
    )
    differing = {k for k in small if large.get(k) != small[k]}
    batch = {"per_device_train_batch_size", "gradient_accumulation_steps"}
    assert differing == {*QUANTIZED, *batch, "optim", "output_dir"}
    assert large.keys() <= small.keys()
    samples = [
        c["per_device_train_batch_size"] * c["gradient_accumulation_steps"] for c in (large, small)
    ]
    assert samples[0] == samples[1]
    assert (small["quantization_bit"], small["quantization_type"]) == (4, "nf4")


@pytest.mark.slow
def test_llama_factory_refuses_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    """So that its reading of every configuration (above) can fail."""
    from llamafactory.hparams import get_train_args

    config = yaml.safe_load((CONFIGS / "qlora.yaml").read_text())
    own = {"output_dir": str(tmp_path / "none"), "use_cpu": True}
    with pytest.raises(ValueError, match="double_quantisation"):
        get_train_args({**config, **own, "double_quantisation": True})


@dataclass
class Arguments:
    """What Transformers fills the `auto` values of a DeepSpeed configuration from."""

    world_size: int = 2
    train_batch_size: int = 4
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 2
    max_grad_norm: float = 1.0
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    fp16: bool = False
    fp16_full_eval: bool = False
    bf16: bool = True
    bf16_full_eval: bool = False
    optim: str = "adamw_torch"
    save_on_each_node: bool = False

    def get_warmup_steps(self, steps: int) -> int:
        return steps // 10


class Model:
    class config:
        hidden_size = 3584


def filled(path: Path) -> dict:
    """The configuration as DeepSpeed is given it on two GPUs."""
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    made = HfTrainerDeepSpeedConfig(json.loads(path.read_text()))
    made.trainer_config_process(Arguments())
    made.trainer_config_finalize(Arguments(), Model(), 100)
    return made.config


@pytest.mark.slow
@pytest.mark.parametrize("path", DEEPSPEED, ids=lambda p: p.name)
def test_a_deepspeed_configuration_is_read_by_transformers_and_deepspeed(path: Path) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = filled(path)
    assert "auto" not in json.dumps({k: v for k, v in config.items() if not k.startswith("_")})
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (
        4,
        2,
    )
    assert "train_batch_size" not in config  # else ZeRO-3 counts one process alone on CPUs
    assert config["bf16"] == {"enabled": True}
    zero = DeepSpeedZeroConfig(**config["zero_optimization"])
    assert path.name == f"zero{int(zero.stage)}.json"
    assert (zero.stage == 3) == zero.gather_16bit_weights_on_model_save
    assert f"deepspeed={path}" in config["_command"]
    with pytest.raises(ValueError, match="overlap_communication"):
        DeepSpeedZeroConfig(**config["zero_optimization"], overlap_communication=True)
