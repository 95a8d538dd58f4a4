"""One LLaMA-Factory run in a folder of ours: watched, resumable, its noise kept in train.log.

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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dat_runtime import errors
from dat_runtime.errors import DatError
from dat_runtime.files import write_atomically
from dat_runtime.stage import ROOT, peak_memory_bytes
from train.mllm import upstream
from train.recipe.config_file import versions

PATHS = ("model_name_or_path", "dataset_dir", "media_dir", "dataset", "output_dir")
"""The keys that our stages set, whatever the file says."""

TOOLS = ("llamafactory", "transformers", "peft", "torch")

LOG = "train.log"
STEPS = "trainer_log.jsonl"


class TrainingError(DatError):
    """LLaMA-Factory ended with an error; the message ends with the tail of its log."""


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a configuration file may hold."""
    return {k: v for k, v in config.items() if k not in PATHS}


def recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without paths, and the tools: what decides the result, for a manifest."""
    return {"llamafactory": without_paths(config), "versions": versions(*TOOLS)}


def run(
    config: Mapping[str, Any],
    work: Path,
    folder: Path,
    name: str,
    preflight: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train into `work`, going on from its last whole checkpoint if it holds one.

    Leaves in `folder`: train.log, trainer_log.jsonl, training_loss.png. What LLaMA-Factory saved
    besides stays in `work`, for the caller to take from and to remove.

    Args:
        config: LLaMA-Factory's keys; `output_dir` is set to `work` here.
        name: what the progress lines begin with.
        preflight: check the run first (`train.mllm.preflight`), with these options of
            `train.mllm.upstream`.

    Returns:
        Seconds of this process and its peak memory (MB, largest process), final loss and steps, and
        what the preflight found.

    Raises:
        TrainingError: LLaMA-Factory failed.
        DatError: the preflight refused the run.
    """
    config = {**config, "output_dir": str(work)}
    if (checkpoint := _tidy(work)) and config["finetuning_type"] == "full":
        # Transformers 5.6 saves Qwen2.5-VL under other names than it resumes from, and goes on with
        # the weights it began with; loaded as a model, the checkpoint is translated.
        config["model_name_or_path"] = str(checkpoint)
    file = work / "config.yaml"
    write_atomically(file, yaml.safe_dump(config, sort_keys=False))
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
            # Lest two trainings write into one folder.
            preexec_fn=upstream.end_with_parent if sys.platform == "linux" else None,
        )
        try:
            _watch(process, work, name)
        finally:
            process.terminate()
            process.wait()
    checked = _checked(work)
    if process.returncode:
        raise TrainingError(_failure(folder / LOG, process.returncode))
    for kept in (STEPS, "training_loss.png"):
        if (work / kept).is_file():
            shutil.copyfile(work / kept, folder / kept)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": peak_memory_bytes() >> 20,
        **_last(work / STEPS),
        **checked.get("report", {}),
    }


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[Callable[[str], None]]:
    """Send what is written to stdout and stderr, by libraries in C too, to the end of a log.

    Yields what still prints a line on the real stdout.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield lambda line: _write_line(kept[0], line)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode())


def _tidy(work: Path) -> Path | None:
    """Make `work` such that LLaMA-Factory begins, or goes on from the checkpoint returned.

    A finished run's last checkpoint goes too: resumed there, Transformers would train a step more.
    """
    work.mkdir(parents=True, exist_ok=True)
    steps, last = 0, None
    for path in sorted(work.iterdir()):
        if step := _unfinished(path):
            steps, last = max((steps, last), (step, path), key=lambda pair: pair[0])
        elif path.is_dir():
            shutil.rmtree(path)
        elif path.name != STEPS:
            path.unlink()
    log = work / STEPS
    if log.is_file():
        known = [line for line in log.read_text("utf-8").splitlines() if 0 < _step(line) <= steps]
        write_atomically(log, "".join(f"{line}\n" for line in known))
    return last


def _unfinished(path: Path) -> int:
    """The step of a whole checkpoint with steps left to do, else 0."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        state = json.loads((path / "trainer_state.json").read_text("utf-8"))  # written last
        if state["global_step"] < state["max_steps"]:
            return int(state["global_step"])
    return 0


def _step(line: str) -> int:
    with contextlib.suppress(ValueError, TypeError):
        return int(json.loads(line).get("current_steps", 0))
    return 0


def _environment(work: Path, folder: Path) -> dict[str, str]:
    """This process's, with our Python's commands and modules in reach, and caches that go away.

    wandb, where report_to asks for it, writes beside the output folder, not where make was called.
    """
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    cache = str(work / "cache")
    modules = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    fixed = {"PATH": path, "PYTHONPATH": modules, "TQDM_MININTERVAL": "5"}
    default = {"HF_DATASETS_CACHE": cache, "WANDB_DIR": str(folder.absolute().parent)}
    return {**default, **os.environ, **fixed}


def _watch(process: "subprocess.Popen[bytes]", work: Path, name: str) -> None:
    """Print a line of progress every few seconds until the process ends."""
    started = noted = time.monotonic()
    shown, lines = "", [f"LLaMA-Factory reads model and data, log: {LOG}"]
    print(f"[{name}] {lines[0]}", flush=True)
    told = False
    while process.poll() is None:
        time.sleep(0.3)
        if not told and (found := _checked(work)):
            told = True
            for line in found["lines"]:
                print(f"[{name}] {line}", flush=True)
        line = _progress(work)
        if line not in ("", shown) and time.monotonic() - noted > 5:
            noted, shown = time.monotonic(), line
            print(f"[{name}] {line}, {noted - started:.0f} s", flush=True)


def _checked(work: Path) -> dict[str, Any]:
    """What the preflight found; empty as long as there is nothing.

    Raises:
        DatError: of the kind that it raised there.
    """
    try:
        found: dict[str, Any] = json.loads((work / upstream.REPORT).read_text("utf-8"))
    except OSError:
        return {}
    if kind := found.get("refused"):
        raise getattr(errors, kind)(found["message"])
    return found


def _progress(work: Path) -> str:
    log = work / STEPS
    if not log.is_file() and (work / upstream.PROGRESS).is_file():
        return (work / upstream.PROGRESS).read_text("utf-8")
    with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
        last = json.loads(log.read_text("utf-8").splitlines()[-1])
        return f"step {last['current_steps']}/{last['total_steps']} loss {last['loss']:.3f}"
    return ""


def _last(log: Path) -> dict[str, Any]:
    """Number of steps and last loss of a trainer log, as far as it has them."""
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    steps = {"steps": entries[-1]["current_steps"]} if entries else {}
    return {**steps, **({"loss": round(losses[-1], 4)} if losses else {})}


def _failure(log: Path, status: int) -> str:
    text = log.read_bytes()[-20_000:].decode("utf-8", "replace")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    tail = "\n  ".join([line for line in lines if line][-12:])
    return f"LLaMA-Factory ended with status {status}; the end of its log:\n  {tail}"
