"""The settings of one training of the MLLM, read once from LLaMA-Factory's keys.

A field has the name of its key and upstream's default: that of LLaMA-Factory 0.9.5 (`hparams/`) or
of Transformers 5.6.0 (`training_args.py`). The defaults are written out because importing either
tool takes seconds; `tests/train/mllm/test_run_settings.py` compares them with the installed tools.

Only the keys that we read are here: those that decide memory, disk, lengths and the base, and those
that the model card states. LLaMA-Factory is given the whole configuration and refuses a key that it
does not know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.family import BY_TEMPLATE, QWEN2_5_VL, Family
from dat_runtime.fields import shown
from dat_runtime.files import read_json


@dataclass(frozen=True)
class RunSettings:
    """One training, on one card or several.

    Attributes:
        lora_target: names of modules, or the one word "all".
        save_steps: below 1 it is a share of all steps.
        zero_stage: of the DeepSpeed configuration that the key `deepspeed` names; 0 without one.
    """

    # LLaMA-Factory's model_args.py
    model_name_or_path: str = ""
    model_revision: str = "main"
    adapter_name_or_path: str | None = None
    image_max_pixels: int = 768 * 768
    image_min_pixels: int = 32 * 32
    quantization_bit: int | None = None
    disable_gradient_checkpointing: bool = False

    # LLaMA-Factory's data_args.py
    template: str | None = None
    dataset: str = ""
    dataset_dir: str = "data"
    cutoff_len: int = 2048
    train_on_prompt: bool = False

    # LLaMA-Factory's finetuning_args.py
    finetuning_type: str = "lora"
    lora_rank: int = 8
    lora_alpha: int | None = None
    lora_dropout: float = 0.0
    lora_target: tuple[str, ...] = ("all",)
    freeze_vision_tower: bool = True
    freeze_multi_modal_projector: bool = True
    use_dft_loss: bool = False
    use_eaft_loss: bool = False

    # Transformers' training_args.py
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 3.0
    max_steps: int = -1
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    optim: str = "adamw_torch_fused"
    bf16: bool = False
    use_cpu: bool = False
    label_smoothing_factor: float = 0.0
    learning_rate: float = 5e-5
    seed: int = 42
    resume_from_checkpoint: str | None = None

    zero_stage: int = 0

    @property
    def family(self) -> Family:
        """Of the base, as its chat template tells it; `refused_keys` lets no other template by."""
        return BY_TEMPLATE.get(self.template or "", QWEN2_5_VL)

    @property
    def full(self) -> bool:
        """Whether the model's own weights are trained, not an adapter's."""
        return self.finetuning_type == "full"

    @property
    def checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass instead of being kept."""
        return not self.disable_gradient_checkpointing

    @property
    def needs_all_logits(self) -> bool:
        """Whether every token is learnt, or a loss of another kind is computed from all logits."""
        other_loss = self.use_dft_loss or self.use_eaft_loss or self.label_smoothing_factor > 0
        return self.train_on_prompt or other_loss

    @property
    def activation_bytes(self) -> int:
        """Bytes of one number of an activation."""
        return 2 if self.bf16 else 4

    @property
    def alpha(self) -> int:
        """LoRA's scale; LLaMA-Factory takes twice the rank where the configuration states none."""
        return self.lora_alpha or 2 * self.lora_rank

    def samples_a_step(self, processes: int) -> int:
        """Samples from which one step of the optimizer learns."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * processes


def read_settings(config: Mapping[str, Any]) -> RunSettings:
    """The settings in a configuration of LLaMA-Factory; upstream's defaults for what it leaves out.

    Raises:
        ConfigError: names the key whose value cannot be read, or the DeepSpeed file.
    """
    values: dict[str, Any] = {}
    for key, (converted, expected) in _READ_AS.items():
        if key not in config:
            continue
        try:
            values[key] = converted(config[key])
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{key} is {shown(config[key])}, expected {expected}") from None
    return RunSettings(**values, zero_stage=read_zero_stage(config.get("deepspeed")))


def read_zero_stage(deepspeed: Any) -> int:
    """The ZeRO stage of a DeepSpeed configuration: a mapping, the path of a JSON file, or nothing.

    Raises:
        ConfigError: there is no such file, or it states no stage.
    """
    if not deepspeed:
        return 0
    if isinstance(deepspeed, Mapping):
        content = deepspeed
    else:
        content = read_json(Path(str(deepspeed)), ConfigError)
    try:
        return int(content["zero_optimization"]["stage"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{deepspeed}: is not a DeepSpeed configuration with a ZeRO stage ({error!r})"
        ) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _path(value: Any) -> str | None:
    # `resume_from_checkpoint` may also be true or false, as a word.
    return str(value) if value else None


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def _words(value: Any) -> tuple[str, ...]:
    """LLaMA-Factory writes lists as words between commas; YAML may hold a list too."""
    words = value.split(",") if isinstance(value, str) else value
    return tuple(str(word).strip() for word in words)


_TEXT = (_text, "a text")
_PATH = (_path, "a path")
_NAME = (_path, "a name")
_WHOLE = (int, "a whole number")
_WHOLE_OR_NONE = (_whole_or_none, "a whole number, or null")
_NUMBER = (float, "a number")
_FLAG = (bool, "true or false")

_READ_AS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "model_name_or_path": _TEXT,
    "model_revision": _TEXT,
    "adapter_name_or_path": _PATH,
    "image_max_pixels": _WHOLE,
    "image_min_pixels": _WHOLE,
    "quantization_bit": _WHOLE_OR_NONE,
    "disable_gradient_checkpointing": _FLAG,
    "template": _NAME,
    "dataset": _TEXT,
    "dataset_dir": _TEXT,
    "cutoff_len": _WHOLE,
    "train_on_prompt": _FLAG,
    "finetuning_type": _TEXT,
    "lora_rank": _WHOLE,
    "lora_alpha": _WHOLE_OR_NONE,
    "lora_dropout": _NUMBER,
    "lora_target": (_words, "names of modules between commas, or all"),
    "freeze_vision_tower": _FLAG,
    "freeze_multi_modal_projector": _FLAG,
    "use_dft_loss": _FLAG,
    "use_eaft_loss": _FLAG,
    "per_device_train_batch_size": _WHOLE,
    "gradient_accumulation_steps": _WHOLE,
    "num_train_epochs": _NUMBER,
    "max_steps": _WHOLE,
    "save_strategy": _TEXT,
    "save_steps": _NUMBER,
    "save_total_limit": _WHOLE_OR_NONE,
    "optim": _TEXT,
    "bf16": _FLAG,
    "use_cpu": _FLAG,
    "label_smoothing_factor": _NUMBER,
    "learning_rate": _NUMBER,
    "seed": _WHOLE,
    "resume_from_checkpoint": _PATH,
}
"""How the value of a key is read, and what it should be, in words."""
