"""The making of an adapter's folder: check and train, check the adapter, describe it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime.adapter import CONFIG, WEIGHTS, Adapter, read_adapter
from dat_runtime.errors import ModelError
from dat_runtime.files import read_json, write_atomically, write_json, write_yaml
from train.mllm import best, model_card, preflight, same_run, tuning, upstream
from train.mllm.run_settings import RunSettings

CHECKPOINT = "checkpoint"
"""Of a run that can be prolonged: its last one."""


def make_adapter(
    folder: Path,
    config: Mapping[str, Any],
    settings: RunSettings,
    name: str,
    ignore_memory: bool = False,
    best_of: int = 0,
    patience: int = 0,
) -> None:
    """Fill the output folder of `train.lora`.

    Args:
        config: LLaMA-Factory's keys, the paths of the command line among them.
        settings: read from `config`.
        name: the progress lines begin with it.
        best_of: validation frames by which the best checkpoint is chosen; 0 for the last one.
        patience: of `best.choose`.

    Raises:
        TrainingError: LLaMA-Factory failed.
        DatError: the preflight refused the run.
        ModelError: the adapter is broken, or a part of it changes nothing.
    """
    work = folder / "work"
    options = [upstream.IGNORE_MEMORY] if ignore_memory else []
    chosen = folder / best.FOLDER
    if best_of:
        chosen.mkdir(exist_ok=True)
        best.forget_end(chosen, work, patience)
        options += [upstream.BEST, str(chosen.absolute()), str(best_of), str(patience)]
    report = tuning.run(config, work, folder, name, preflight=options)
    for file in (WEIGHTS, CONFIG):
        ((chosen if best_of else work) / file).replace(folder / file)
    if best_of:
        history = best.read_history(chosen)
        report["validation"] = {"sev_f1": history, "best_step": best.choose(history, 0)[0]}
        shutil.rmtree(chosen)
    state_base(folder / CONFIG, settings)
    adapter = read_adapter(folder)
    demand_change(folder, adapter)
    write_atomically(folder / "README.md", model_card.lora_card(settings, adapter, report))
    write_yaml(folder / "config.yaml", dict(config))
    write_json(folder / "run.json", report)
    if same_run.length(config) and not best_of:
        tuning.last_checkpoint(work).replace(folder / CHECKPOINT)
    shutil.rmtree(work)


def prolong(ended: Path, folder: Path) -> None:
    """Let a run begin where a shorter one ended, unless it already went on from there."""
    work, copied = folder / "work", folder / "copied"
    if work.exists():
        return
    shutil.rmtree(copied, ignore_errors=True)
    step = read_json(ended / CHECKPOINT / tuning.STATE)["global_step"]
    shutil.copytree(ended / CHECKPOINT, copied / f"checkpoint-{step}")
    shutil.copyfile(ended / tuning.STEPS, copied / tuning.STEPS)
    copied.rename(work)


def state_base(path: Path, settings: RunSettings) -> None:
    """Name the base model and its revision in the adapter's configuration; PEFT leaves it open."""
    name = settings.model_name_or_path
    if Path(name).is_dir():
        name = Path(name).resolve().name
    stated = read_json(path, ModelError)
    stated["base_model_name_or_path"] = name
    stated["revision"] = preflight.base_revision(settings)
    write_json(path, stated, sort_keys=True)


def demand_change(folder: Path, adapter: Adapter) -> None:
    """LoRA begins with B = 0: an adapter that still has it changes no answer.

    Raises:
        ModelError: names the first B that is all zeros.
    """
    from safetensors import safe_open

    # NumPy has no bfloat16; PyTorch takes seconds to import.
    framework = "pt" if "BF16" in adapter.dtypes else "np"
    with safe_open(folder / WEIGHTS, framework) as tensors:
        for key in sorted(tensors.keys()):
            if ".lora_B." in key and not tensors.get_tensor(key).any():
                raise ModelError(
                    f"{folder / WEIGHTS}: {key} is all zeros, so the adapter changes nothing "
                    "there: train longer, or take the module out of lora_target"
                )
