from pathlib import Path
from typing import Any

import pytest

from dat_runtime.files import write_json
from tests.train.detector.tiny_gate import TINY, write_data
from train.detector import dataset, ultralytics_run
from train.detector.callbacks import Epochs


def test_a_run_killed_while_its_work_was_removed_does_not_train_again(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"trained")
    write_json(tmp_path / "metrics.json", {"train_seconds": 1.5})
    epochs = Epochs(tmp_path / "work" / "checkpoint.pt", {})
    assert ultralytics_run.train(tmp_path, tmp_path, {}, epochs) == {"train_seconds": 1.5}


class Counted(Epochs):
    """Counts the checkpoints."""

    written = 0

    def _write(self, trainer: Any) -> None:
        Counted.written += 1
        super()._write(trainer)


class CutOff(Counted):
    """Dies in the third epoch, as a killed run does; the last checkpoint is of the first."""

    def seed(self, trainer: Any) -> None:
        if trainer.epoch == 2:
            raise KeyboardInterrupt
        super().seed(trainer)


def weights_after(
    folder: Path, data: Path, callbacks: type[Epochs] = Epochs, **keys: Any
) -> dict[str, Any]:
    import torch

    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    boxes = dataset.count_boxes(data)
    linked = dataset.link_data(data, work / "data", boxes)
    with ultralytics_run.quiet(folder / "train.log", work):
        ultralytics_run.train(
            folder, linked, {**TINY, **keys}, callbacks(work / "checkpoint.pt", boxes)
        )
    return torch.load(folder / "best.pt", weights_only=False)["model"].state_dict()


@pytest.mark.slow
def test_a_training_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With mosaics over the end of an epoch, validation, and a best epoch in between."""
    data, keys = write_data(tmp_path / "data"), {"epochs": 4, "val": True, "lr0": 0.02}
    whole = weights_after(tmp_path / "whole", data, Counted, **keys)
    assert Counted.written == 1
    another = weights_after(tmp_path / "another", data, **keys, seed=1)
    assert any(bool((another[name] != whole[name]).any()) for name in whole)
    with pytest.raises(KeyboardInterrupt):
        weights_after(tmp_path / "cut", data, CutOff, **keys)
    capfd.readouterr()
    resumed = weights_after(tmp_path / "cut", data, **keys)
    assert "going on after epoch 1/4" in capfd.readouterr().out
    assert all(bool((resumed[name] == whole[name]).all()) for name in whole)


def test_checkpoints_take_at_most_a_hundredth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from train.detector import trainer

    now = [1000.0]
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now[0])
    checkpoints = trainer.Checkpoints()
    for seconds, pause in ((0.1, 60.0), (2.0, 200.0)):
        assert checkpoints.is_due()
        with checkpoints.written():
            now[0] += seconds
        now[0] += pause - 0.1
        assert not checkpoints.is_due()
        now[0] += 0.1001
