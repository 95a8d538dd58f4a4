"""When two configurations of LLaMA-Factory are one run: keys that decide no weight, and its length.

A run may be cut off and go on with other values of the keys that decide nothing. It may also be
prolonged, once it has ended, where its learning rate does not depend on its end.
"""

from collections.abc import Mapping
from typing import Any

IDLE = frozenset((
    "logging_steps", "logging_strategy", "logging_first_step", "logging_dir",
    "logging_nan_inf_filter", "log_level", "log_level_replica", "log_on_each_node", "disable_tqdm",
    "report_to", "run_name", "project", "plot_loss", "print_param_status",
    "include_num_input_tokens_seen", "include_effective_tokens_per_second",
    "save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "overwrite_output_dir",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "preprocessing_num_workers", "preprocessing_batch_size",
    "overwrite_cache", "data_shared_file_system", "cache_dir", "hf_hub_token",
))  # fmt: skip
"""Keys that decide what is printed, kept and read ahead, and not a weight: a sample's place and all
random numbers come from the seed and the step, and a checkpoint holds the generators' state."""

CHOOSING = ("load_best_model_at_end", "early_stopping_steps")
"""With one of these the checkpoints decide what is kept, and their keys with them."""

LENGTH = ("max_steps", "num_train_epochs")

ENDLESS = ("constant", "constant_with_warmup")
"""Schedules of the learning rate that do not depend on the last step."""


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that decide the weights."""
    if any(config.get(key) for key in CHOOSING):
        return dict(config)
    return {key: value for key, value in config.items() if key not in IDLE}


def length(config: Mapping[str, Any]) -> dict[str, float]:
    """How long the run is, where a longer one begins with the very same steps; else nothing.

    A warm-up that is a share of all steps makes the schedule depend on the end too.
    """
    keeps_none = config.get("save_strategy") == "no" or config.get("save_only_model")
    if _depends_on_end(config) or keeps_none:
        return {}
    if config.get("max_steps", -1) > 0:
        return {"max_steps": config["max_steps"]}
    return {"num_train_epochs": config.get("num_train_epochs", 3.0)}


def _depends_on_end(config: Mapping[str, Any]) -> bool:
    warmup = config.get("warmup_ratio") or config.get("warmup_steps") or 0
    return config.get("lr_scheduler_type", "linear") not in ENDLESS or 0 < warmup < 1


def reasons(config: Mapping[str, Any]) -> dict[str, str]:
    """Why another length is another run, for `Stage`."""
    schedule = config.get("lr_scheduler_type", "linear")
    why = (
        f"the learning rate ({schedule}) runs to its end at the last step, so a longer run differs "
        "from the first steps on"
        if _depends_on_end(config)
        else "of a run without checkpoints there is nothing to go on from"
    )
    advice = (
        "to be able to prolong one, train with lr_scheduler_type=constant or constant_with_warmup, "
        "warmup_steps in whole steps, and checkpoints"
    )
    return {f"llamafactory.{key}": f"{why}: {advice}" for key in LENGTH}


def is_done(state: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint (its trainer_state.json) has no step left to do."""
    if config.get("max_steps", -1) > 0:
        return bool(state["global_step"] >= config["max_steps"])
    return bool(state["epoch"] >= config.get("num_train_epochs", 3.0))
