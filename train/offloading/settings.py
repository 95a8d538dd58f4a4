"""The keys of `configs/offload/*.yaml`, checked before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.fields import FLAG, above, checked, list_of, number, optional, text_like, whole

NORM_GROUPS = 8
"""Of the decoder's normalisation; its width is a multiple."""

STAGES = ("reconstruction", "merger", "answers")
"""In the order in which a codec learns; each has a key `<stage>_steps`."""

_STEPS = whole(0, 10**7)
RULES = {
    "model_revision": optional(text_like(r"[0-9a-f]{40}", "a commit of 40 digits")),
    "block": whole(0, 1 << 10),
    "channels": list_of(whole(1, (1 << 16) - 1), 1, 16),
    "spatial": FLAG,
    "width": whole(NORM_GROUPS, 1 << 14),
    "lambda_reconstruction": number(0),
    "lambda_binary": number(0),
    **{f"{stage}_steps": _STEPS for stage in STAGES},
    "batch_size": whole(1, 1 << 12),
    "learning_rate": above(0, 1),
    "warmup_ratio": number(0, 1),
    "max_grids": whole(1, 64),
    "save_steps": whole(1, 10**6),
    "seed": whole(0, 2**31),
}


@dataclass(frozen=True)
class CodecSettings:
    """How a codec is built and trained.

    Attributes:
        model_revision: of a base of the hub, where no adapter states it.
        block: how many blocks a node runs; 11 are blocks 0 to 10.
        channels: of the nested codes, rising.
        width: channels inside the decoder.
        lambda_reconstruction, lambda_binary: λ1 and λ2 of Eq. 3.
        reconstruction_steps: on features alone, as warm-up.
        merger_steps: with the merger's output as the task.
        answers_steps: with the language model's true answers as the task.
        batch_size: pictures in a step.
        max_grids: pictures' grids that get an encoder for nodes, the most frequent ones.
        save_steps: between two checkpoints.
    """

    model_revision: str | None
    block: int
    channels: tuple[int, ...]
    spatial: bool
    width: int
    lambda_reconstruction: float
    lambda_binary: float
    reconstruction_steps: int
    merger_steps: int
    answers_steps: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    max_grids: int
    save_steps: int
    seed: int

    @property
    def steps(self) -> int:
        return sum(getattr(self, f"{stage}_steps") for stage in STAGES)

    def stage_of(self, step: int) -> str:
        """What is learnt at a step, counted from 0."""
        for stage in STAGES:
            step -= getattr(self, f"{stage}_steps")
            if step < 0:
                return stage
        raise ValueError("after the last step")


def read_settings(config: Mapping[str, Any]) -> CodecSettings:
    """The settings in a configuration.

    Raises:
        ConfigError: names the key that is missing, unknown or wrong.
    """
    try:
        values = dict(checked(dict(config), RULES, "", ("model_revision",)))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    channels = values["channels"]
    if channels != sorted(set(channels)):
        raise ConfigError(f"channels are {channels}, expected rising numbers: each code is nested")
    if values["width"] % NORM_GROUPS:
        raise ConfigError(f"width is {values['width']}, expected a multiple of {NORM_GROUPS}")
    values.setdefault("model_revision", None)
    settings = CodecSettings(**{**values, "channels": tuple(channels)})
    if not settings.steps:
        raise ConfigError("no step to train: reconstruction_steps, merger_steps, answers_steps")
    return settings
