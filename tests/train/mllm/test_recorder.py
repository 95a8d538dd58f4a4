"""What a rehearsal measures, by a clock that is set."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train.mllm import recorder


def recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of two steps with a checkpoint after each; each look at the clock takes longer."""
    ticks = iter([10.0, 12.0, 15.0, 19.0, 24.0, 30.0, 37.0])
    cpu = iter([1.0, 1.5, 3.0, 4.0])
    clock = SimpleNamespace(monotonic=lambda: next(ticks), process_time=lambda: next(cpu))
    monkeypatch.setattr(recorder, "time", clock)
    monkeypatch.setattr(recorder, "peak_memory_bytes", lambda: 99)
    callback = recorder.record(path, started=3.0)
    callback.on_train_begin(None, None, None, model=None)
    for _ in range(2):
        callback.on_step_begin(None, None, None)
        callback.on_step_end(None, None, None)
        callback.on_save(None, None, None)
    assert not path.exists()
    callback.on_train_end(None, None, None)
    return dict(json.loads(path.read_text()))


MEASURED = {
    "start_seconds": 7.0,
    "step_seconds": [3.0, 6.0],
    "step_cpu_seconds": [0.5, 1.0],
    "checkpoint_seconds": [4.0, 7.0],
    "peak_card_bytes": None,
    "reserved_card_bytes": None,
    "peak_process_bytes": 99,
}


def test_steps_and_checkpoints_are_timed_and_written_at_the_end(tmp_path, monkeypatch) -> None:
    import torch
    from transformers import TrainerCallback

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert recorded(tmp_path / "measured.json", monkeypatch) == MEASURED
    assert isinstance(recorder.record(tmp_path, 0.0), TrainerCallback)


def test_on_a_card_its_work_is_waited_for_and_its_memory_measured(tmp_path, monkeypatch) -> None:
    import torch

    waited: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 6)
    on_card = {"peak_card_bytes": 5, "reserved_card_bytes": 6}
    assert recorded(tmp_path / "measured.json", monkeypatch) == MEASURED | on_card
    assert len(waited) == 7


@pytest.mark.parametrize("card", [False, True])
def test_random_weights_are_made_on_the_card_where_there_is_one(monkeypatch, card) -> None:
    import torch
    from transformers import AutoModelForImageTextToText as Auto

    def from_config(*given: Any, **named: Any) -> Any:
        try:
            return given, named, torch.empty(2).device.type
        except (AssertionError, RuntimeError):  # no card here
            return given, named, "cuda"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    monkeypatch.setattr(Auto, "from_config", from_config)
    recorder.weights_on_card()
    device = "cuda" if card else "cpu"
    assert Auto.from_config("config", dtype="x") == (("config",), {"dtype": "x"}, device)
