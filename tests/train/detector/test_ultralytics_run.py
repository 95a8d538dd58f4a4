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


class CutOff(Epochs):
    """Dies in the middle of the second epoch, as a killed run does."""

    def seed(self, trainer: Any) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt
        super().seed(trainer)


def weights_after(
    folder: Path, data: Path, epochs: type[Epochs] = Epochs, **keys: Any
) -> dict[str, Any]:
    import torch

    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    boxes = dataset.count_boxes(data)
    linked = dataset.link_data(data, work / "data", boxes)
    with ultralytics_run.quiet(folder / "train.log", work):
        ultralytics_run.train(
            folder, linked, {**TINY, **keys}, epochs(work / "checkpoint.pt", boxes)
        )
    return torch.load(folder / "best.pt", weights_only=False)["model"].state_dict()


@pytest.mark.slow
def test_a_training_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    data = write_data(tmp_path / "data")
    whole = weights_after(tmp_path / "whole", data)
    another = weights_after(tmp_path / "another", data, seed=1)
    assert any(bool((another[name] != whole[name]).any()) for name in whole)
    with pytest.raises(KeyboardInterrupt):
        weights_after(tmp_path / "cut", data, CutOff)
    resumed = weights_after(tmp_path / "cut", data)
    assert (tmp_path / "cut" / "work" / "checkpoint.pt").is_file()
    assert all(bool((resumed[name] == whole[name]).all()) for name in whole)
