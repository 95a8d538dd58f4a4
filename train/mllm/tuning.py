"""One LLaMA-Factory run in a folder of ours: watched, resumable, its output kept in train.log.

The work is upstream's: a configuration in LLaMA-Factory's own keys, given to
`llamafactory-cli train` in a process of its own, so that a run by hand gives the same adapter, on
one GPU or by torchrun on many; `train.mllm.upstream` keeps a frozen vision tower's activations
out of memory, which a run by hand does not.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime import children, errors
from dat_runtime.errors import DatError
from dat_runtime.files import read_json, read_json_lines, write_atomically, write_json, write_yaml
from dat_runtime.stage import peak_memory_bytes
from train.mllm import same_run, upstream
from train.recipe import log_tail
from train.recipe.config_file import versions

PATHS = ("model_name_or_path", "dataset_dir", "media_dir", "dataset", "output_dir")
"""The keys that our stages set, whatever the file says."""

TOOLS = ("llamafactory", "transformers", "peft", "torch")

LOG = "train.log"
STEPS = "trainer_log.jsonl"
"""LLaMA-Factory's: a line per logged step."""

STATE = "trainer_state.json"
"""Of a checkpoint: Transformers' step, epoch, and how often to log and to save."""

POLL_SECONDS = 0.3
PROGRESS_SECONDS = 5
"""Between two lines of progress, at least."""

TAIL_LINES = 12
"""Of the log, in the message of a training that failed."""


class TrainingError(DatError):
    """LLaMA-Factory ended with an error; the message ends with the tail of its log."""


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a configuration file may hold."""
    return {k: v for k, v in config.items() if k not in PATHS}


def recipe(config: Mapping[str, Any], length: Mapping[str, float]) -> dict[str, Any]:
    """For a manifest: the keys that decide the result, but paths and length; and the tools."""
    keys = same_run.deciding(without_paths(config))
    if length:
        keys = {key: value for key, value in keys.items() if key not in same_run.LENGTH}
    return {"llamafactory": keys, "versions": versions(*TOOLS)}


def run(
    config: Mapping[str, Any],
    work: Path,
    folder: Path,
    name: str,
    preflight: Sequence[str] | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Train into `work`, going on from its last whole checkpoint if it holds one.

    Leaves in `folder`: train.log, trainer_log.jsonl, training_loss.png. Everything else that
    LLaMA-Factory saved stays in `work`: the caller takes files from there and removes it.

    Args:
        config: LLaMA-Factory's keys; `output_dir` is set to `work` here.
        name: the progress lines begin with it.
        preflight: check the run first (`train.mllm.preflight`), with these options of
            `train.mllm.upstream`.
        stop: set by another thread, it ends the training.

    Returns:
        Seconds of this process and its peak memory (MB, largest process), final loss and steps, and
        the preflight report.

    Raises:
        TrainingError: LLaMA-Factory failed.
        DatError: the preflight refused the run.
    """
    config = {**config, "output_dir": str(work)}
    checkpoint = _tidy(work, config)
    if checkpoint is not None:
        _take_steps_of(config, checkpoint)
    if checkpoint is not None and config["finetuning_type"] == "full":
        # Transformers 5.6 saves Qwen2.5-VL under other names than it resumes from, and goes on with
        # the weights it began with; loaded as a model, the checkpoint is translated.
        config["model_name_or_path"] = str(checkpoint)
    file = work / "config.yaml"
    write_yaml(file, config)
    options = []
    if preflight is not None:
        options = [upstream.PREFLIGHT, str(work), str(folder), *preflight]
    started = time.monotonic()
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", upstream.__name__, "train", str(file), *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_environment(work, folder),
            # Else a training would go on after this process is killed, and the next start would be
            # a second one that writes into the same folder.
            preexec_fn=upstream.BEFORE_START,
        )
        try:
            _watch(process, work, name, stop or threading.Event())
        finally:
            process.terminate()
            process.wait()
    preflight_report = _preflight_report(work)
    if process.returncode:
        raise TrainingError(_failure(folder / LOG, process.returncode))
    for kept in (STEPS, "training_loss.png"):
        if (work / kept).is_file():
            shutil.copyfile(work / kept, folder / kept)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": peak_memory_bytes() >> 20,
        **_last_step(work / STEPS),
        **preflight_report.get("report", {}),
    }


@contextlib.contextmanager
def output_into(log: Path) -> Iterator[None]:
    """Send everything written to stdout and stderr, by libraries in C too, to the end of a log."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved_stdout, saved_stderr = os.dup(1), os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, saved in ((1, saved_stdout), (2, saved_stderr)):
            os.dup2(saved, descriptor)
            os.close(saved)


def _take_steps_of(config: Mapping[str, Any], checkpoint: Path) -> None:
    """Let this start log and save when its configuration says: Transformers asks the checkpoint."""
    path = checkpoint / STATE
    given = {key: config[key] for key in ("logging_steps", "save_steps") if config.get(key, 0) >= 1}
    write_json(path, {**read_json(path), **given})


def last_checkpoint(work: Path) -> Path:
    """The checkpoint of a training's last step.

    Raises:
        TrainingError: there is none.
    """
    found = {int(path.name.rpartition("-")[2]): path for path in work.glob("checkpoint-*")}
    if not found:
        raise TrainingError(f"{work} holds no checkpoint")
    return found[max(found)]


def _tidy(work: Path, config: Mapping[str, Any]) -> Path | None:
    """Prepare `work` for LLaMA-Factory to begin, or to go on from the checkpoint returned.

    A finished run's last checkpoint goes too: resumed there, Transformers would train a step more.
    """
    work.mkdir(parents=True, exist_ok=True)
    last_step, last_checkpoint = 0, None
    for path in sorted(work.iterdir()):
        step = _unfinished_step(path, config)
        if step > last_step:
            last_step, last_checkpoint = step, path
        elif step == 0 and path.is_dir():
            shutil.rmtree(path)
        elif step == 0 and path.name != STEPS:
            path.unlink()
    log = work / STEPS
    if log.is_file():
        # Steps after the checkpoint will be done and logged again.
        lines = log.read_text("utf-8").splitlines()
        done = [line for line in lines if 0 < _step_of(line) <= last_step]
        write_atomically(log, "".join(f"{line}\n" for line in done))
    return last_checkpoint


def _unfinished_step(path: Path, config: Mapping[str, Any]) -> int:
    """The step of a whole checkpoint with steps left to do; 0 for anything else."""
    with contextlib.suppress(DatError, KeyError, TypeError):
        state = read_json(path / STATE)  # Transformers writes it last
        if not same_run.is_done(state, config):
            return int(state["global_step"])
    return 0


def _step_of(line: str) -> int:
    """The step of a line of the trainer log; 0 for a line that was cut off."""
    with contextlib.suppress(ValueError, TypeError):
        return int(json.loads(line).get("current_steps", 0))
    return 0


def _environment(work: Path, folder: Path) -> dict[str, str]:
    """This process's environment, with our Python's commands and modules in reach.

    The cache of the data sets lies in `work`, which is removed at the end.

    wandb, where report_to asks for it, writes beside the output folder, not where make was called.
    """
    commands = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    environment = {
        "HF_DATASETS_CACHE": str(work / "cache"),
        "WANDB_DIR": str(folder.absolute().parent),
    }
    environment.update(children.environment())
    environment["PATH"] = os.pathsep.join(commands)
    environment["TQDM_MININTERVAL"] = "5"
    return environment


def _watch(
    process: "subprocess.Popen[bytes]", work: Path, name: str, stop: threading.Event
) -> None:
    """Print a line of progress every few seconds until the process ends, or is to."""
    started = last_print = time.monotonic()
    print(f"[{name}] LLaMA-Factory reads model and data, log: {LOG}", flush=True)
    last_line = ""
    preflight_shown = False
    while process.poll() is None and not stop.wait(POLL_SECONDS):
        if not preflight_shown and (report := _preflight_report(work)):
            preflight_shown = True
            for line in report["lines"]:
                print(f"[{name}] {line}", flush=True)
        line = _progress(work)
        is_due = time.monotonic() - last_print > PROGRESS_SECONDS
        if line not in ("", last_line) and is_due:
            last_print, last_line = time.monotonic(), line
            print(f"[{name}] {line}, {last_print - started:.0f} s", flush=True)


def _preflight_report(work: Path) -> dict[str, Any]:
    """What `upstream.check` left in `work`; empty before it did.

    Raises:
        DatError: the preflight refused the run; of the kind that it raised.
    """
    path = work / upstream.REPORT
    if not path.is_file():
        return {}
    report: dict[str, Any] = read_json(path)
    if kind := report.get("refused"):
        raise getattr(errors, kind)(report["message"])
    return report


def _progress(work: Path) -> str:
    """The last step and its loss; before the first, how far the preflight is."""
    log = work / STEPS
    if not log.is_file() and (work / upstream.PROGRESS).is_file():
        return (work / upstream.PROGRESS).read_text("utf-8")
    # LLaMA-Factory may be writing the last line at this moment.
    with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
        last = json.loads(log.read_text("utf-8").splitlines()[-1])
        return f"step {last['current_steps']}/{last['total_steps']} loss {last['loss']:.3f}"
    return ""


def _last_step(log: Path) -> dict[str, Any]:
    """Number of steps and last loss of a trainer log, as far as it has them."""
    last: dict[str, Any] = {}
    for _, entry in read_json_lines(log):
        last["steps"] = entry["current_steps"]
        if "loss" in entry:
            last["loss"] = round(entry["loss"], 4)
    return last


def _failure(log: Path, status: int) -> str:
    """The message of a failed training: the last lines of its log that are not empty."""
    shown = "\n  ".join(log_tail.last_lines(log, TAIL_LINES))
    return f"LLaMA-Factory ended with status {status}; the end of its log:\n  {shown}"
