"""`llamafactory-cli train` without the work that teaches nothing: tower, logits, copies, calls.

    python -m train.mllm.upstream train CONFIG.yaml [--preflight WORK PLOTS] [--ignore-memory]
        [--rehearse FILE | --best FOLDER FRAMES PATIENCE]

Under gradient checkpointing PEFT asks for gradients at the inputs; Transformers 5 then asks for
them at the vision tower's too, and LLaMA-Factory 0.9.5 checkpoints no frozen layer. So all
activations of a tower that learns nothing are kept, and its backward pass is computed for nothing:
7.6 GB for each image of a million pixels at the 7B's sizes (docs/lora.md). Here the tower runs
without autograd as long as none of its weights is trained. And logits are computed for the tokens
before a learnt one only, where upstream computes those of image and prompt too, and leaves them out
of the loss: 1.8 MB a token at the 7B's vocabulary. And where autocast multiplies in 16 bits, PEFT
0.18 first copies each LoRA module's input to float32, which autocast then copies back: here it
stays as it is. The tower's windows are attended to all at once (`train.mllm.windows`). Losses and
gradients are the same.

With --preflight it checks the run first (`train.mllm.preflight`), with the libraries that
LLaMA-Factory needs anyway, and leaves the report, or why the run is refused, in
WORK/preflight.json.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PREFLIGHT = "--preflight"
IGNORE_MEMORY = "--ignore-memory"
REHEARSE = "--rehearse"
"""With the file for `train.mllm.recorder`."""

BEST = "--best"
"""With the folder for `train.mllm.best`, how many frames, and the patience."""

REPORT = "preflight.json"
PROGRESS = "preflight.txt"
REFUSED = 3
"""Exit status of a run that the preflight refused."""

LOGITS, COPIES, WINDOWS = PARTS = ("logits", "copies", "windows")
AS_UPSTREAM = "DAT_AS_UPSTREAM"
"""In the environment, for a comparison: which of `PARTS` stay as they are upstream."""

UNLEARNT = -100
"""The label of a token that is not learnt: image, prompt, padding."""

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2): the signal that a process is sent when its parent ends."""


def replaced() -> Iterator[tuple[Any, str]]:
    """Each class of which a method is replaced here, and the method's name, of every family."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from train.mllm.families import MODULES

    for family in MODULES.values():
        modeling = import_module(family.MODELING)
        for name in (family.TOWER, family.ATTENTION, family.MODEL):
            yield getattr(modeling, name), "forward"
    yield BaseTunerLayer, "_cast_input_dtype"


def leave_out(as_upstream: Collection[str] = ()) -> None:
    """Replace all that `replaced` names.

    Args:
        as_upstream: which of `PARTS` stay as they are.
    """
    from train.mllm import windows

    leave_out_frozen_towers()
    if LOGITS not in as_upstream:
        leave_out_unlearnt_logits()
    if COPIES not in as_upstream:
        leave_out_float_copies()
    if WINDOWS not in as_upstream:
        windows.attend_at_once()


def leave_out_frozen_towers() -> None:
    """Let the vision towers run without autograd while all of their weights are frozen."""
    from train.mllm.families import MODULES

    for family in MODULES.values():
        _leave_out_frozen(getattr(import_module(family.MODELING), family.TOWER))


def leave_out_unlearnt_logits() -> None:
    """Let the models compute, in training, the logits of those tokens alone that have a label."""
    from train.mllm.families import MODULES

    for family in MODULES.values():
        modeling = import_module(family.MODELING)
        _leave_out_unlearnt(getattr(modeling, family.MODEL), getattr(modeling, family.OUTPUT))


def leave_out_float_copies() -> None:
    """Let LoRA's modules take their inputs as they are where autocast converts them anyway."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    convert = BaseTunerLayer._cast_input_dtype

    @wraps(convert)
    def as_it_is(self: Any, x: Any, dtype: Any) -> Any:
        if x is not None and torch.is_autocast_enabled(x.device.type):
            return x
        return convert(self, x, dtype)

    BaseTunerLayer._cast_input_dtype = as_it_is


def keep_under_liger() -> None:
    """Let Liger replace norms, rotation and MLP, and not the models' forward pass: its own has all
    logits, and leaves out `mm_token_type_ids`."""
    from llamafactory.model import loader

    from train.mllm.families import MODULES

    apply = loader.apply_liger_kernel
    models = [getattr(import_module(one.MODELING), one.MODEL) for one in MODULES.values()]

    @wraps(apply)
    def apply_but_forward(*args: Any, **kwargs: Any) -> None:
        ours = [model.forward for model in models]
        apply(*args, **kwargs)
        for model, forward in zip(models, ours, strict=True):
            model.forward = forward

    loader.apply_liger_kernel = apply_but_forward


def _leave_out_frozen(Tower: Any) -> None:
    import torch

    original_forward = Tower.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Asked at each call: LLaMA-Factory freezes the tower after the model is built.
        is_trained = any(weight.requires_grad for weight in self.parameters())
        with torch.set_grad_enabled(is_trained and torch.is_grad_enabled()):
            return original_forward(self, *args, **kwargs)

    Tower.forward = forward


def _leave_out_unlearnt(Model: Any, Output: Any) -> None:
    from torch.nn.functional import pad

    original_forward = Model.forward

    @wraps(original_forward)  # Transformers reads its parameters' names before it generates
    def forward(self: Any, *args: Any, labels: Any = None, **kwargs: Any) -> Any:
        if labels is None or not self.training:
            return original_forward(self, *args, labels=labels, **kwargs)
        hidden = self.model(*args, **kwargs)[0]
        following = pad(labels[:, 1:], (0, 1), value=UNLEARNT)
        is_learnt = following != UNLEARNT
        loss = self.loss_function(
            self.lm_head(hidden[is_learnt]),
            labels=None,
            vocab_size=self.config.text_config.vocab_size,
            num_items_in_batch=kwargs.get("num_items_in_batch"),
            shift_labels=following[is_learnt],
        )
        return Output(loss=loss)

    Model.forward = forward


def check(config: Path, work: Path, plots: Path, ignore_memory: bool) -> bool:
    """Run the preflight and leave its outcome in `work`; whether the run may begin."""
    from dat_runtime.errors import DatError
    from dat_runtime.files import write_atomically, write_json
    from train.mllm import preflight
    from train.mllm.run_settings import read_settings
    from train.recipe.config_file import read_config

    def report_progress(line: str) -> None:
        write_atomically(work / PROGRESS, line)

    try:
        settings = read_settings(read_config(config))
        report = preflight.check(settings, plots, report_progress, ignore_memory)
    except DatError as error:
        write_json(work / REPORT, {"refused": type(error).__name__, "message": str(error)})
        return False
    write_json(work / REPORT, {"lines": report.lines(), "report": report.as_json()})
    return True


def rehearse(measured: Path, started: float) -> None:
    """Train in this process, on one card, with random weights and a callback that measures."""
    from llamafactory.train.tuner import run_exp

    from train.mllm import recorder

    recorder.weights_on_card()
    del sys.argv[1]  # as LLaMA-Factory's launcher leaves them
    run_exp(callbacks=[recorder.record(measured, started)])


def train_for_best(config: Path, folder: str, frames: str, patience: str) -> None:
    """Train in this process, on one card, with a callback that keeps the best checkpoint."""
    from llamafactory.train.tuner import run_exp

    from train.mllm import best
    from train.mllm.run_settings import read_settings
    from train.recipe.config_file import read_config

    settings = read_settings(read_config(config))
    del sys.argv[1]
    run_exp(callbacks=[best.callback(Path(folder), settings, int(frames), int(patience))])


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent ends; torchrun then ends its processes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


BEFORE_START = end_with_parent if sys.platform == "linux" else None
"""For `preexec_fn`: what a process that we start does first. Other systems have no such signal."""


def main() -> int:
    """LLaMA-Factory's own entry: with several cards it starts torchrun, which runs this file.

    The launcher reads which file that is from its own `__file__`, and starts torchrun through its
    own `subprocess`, so both are replaced there.
    """
    started = time.monotonic()
    if REHEARSE in sys.argv or BEST in sys.argv:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    from llamafactory import launcher
    from llamafactory.train.tuner import run_exp

    left = os.environ.get(AS_UPSTREAM, "").split()
    if not set(left) <= set(PARTS):
        raise SystemExit(f"{AS_UPSTREAM}: {' '.join(left)}: not of {', '.join(PARTS)}")
    leave_out(left)
    keep_under_liger()
    if PREFLIGHT in sys.argv:
        at = sys.argv.index(PREFLIGHT)
        work, plots, *rest = sys.argv[at + 1 :]
        # LLaMA-Factory would read the options as keys of its own.
        del sys.argv[at:]
        if not check(Path(sys.argv[2]), Path(work), Path(plots), IGNORE_MEMORY in rest):
            return REFUSED
        if REHEARSE in rest:
            rehearse(Path(rest[rest.index(REHEARSE) + 1]), started)
            return 0
        if BEST in rest:
            train_for_best(Path(sys.argv[2]), *rest[rest.index(BEST) + 1 :][:3])
            return 0
    if sys.argv[1] == "train":
        # torchrun runs this file by its path, and Python would look for every module in its folder
        # first: `memory`, `resources` and `lengths` are common names.
        os.environ["PYTHONSAFEPATH"] = "1"
        launcher.__file__ = os.path.abspath(__file__)
        run_that_ends = partial(subprocess.run, preexec_fn=BEFORE_START)
        launcher.subprocess = SimpleNamespace(run=run_that_ends)
        launcher.launch()
    else:  # one of torchrun's processes
        run_exp()
    return 0


if __name__ == "__main__":
    sys.exit(main())
