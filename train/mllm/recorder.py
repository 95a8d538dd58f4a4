"""What a rehearsal measures in LLaMA-Factory's process: seconds of steps and checkpoints, peak."""

import json
import time
from pathlib import Path
from typing import Any

from dat_runtime.files import write_atomically
from dat_runtime.stage import peak_memory_bytes


def record(path: Path, started: float) -> Any:
    """A callback of Transformers that leaves its measurements in a JSON file at the end.

    Args:
        started: `time.monotonic()` when the process began its work.
    """
    import torch
    from transformers import TrainerCallback

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic()

    class Recorder(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.steps: list[float] = []
            self.cpu: list[float] = []
            self.checkpoints: list[float] = []
            self.began = self.at = self.ended = self.cpu_at = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = now()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.at, self.cpu_at = now(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = now()
            self.steps.append(self.ended - self.at)
            self.cpu.append(time.process_time() - self.cpu_at)

        def on_save(self, *_: Any, **__: Any) -> None:
            # Called when the checkpoint is whole; between the two lies little but its writing.
            self.checkpoints.append(now() - self.ended)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            on_card = torch.cuda.is_available()
            measured = {
                "start_seconds": self.began - started,
                "step_seconds": self.steps,
                "step_cpu_seconds": self.cpu,
                "checkpoint_seconds": self.checkpoints,
                "peak_card_bytes": torch.cuda.max_memory_allocated() if on_card else None,
                "reserved_card_bytes": torch.cuda.max_memory_reserved() if on_card else None,
                "peak_process_bytes": peak_memory_bytes(),
            }
            write_atomically(path, json.dumps(measured))

    return Recorder()


def weights_on_card() -> None:
    """Let random weights be made where they stay: those of a 7B take minutes on a CPU."""
    import torch
    from transformers import AutoModelForImageTextToText as Auto

    if not torch.cuda.is_available():
        return
    on_cpu = Auto.from_config

    def from_config(*args: Any, **kwargs: Any) -> Any:
        with torch.device("cuda"):
            return on_cpu(*args, **kwargs)

    Auto.from_config = from_config
