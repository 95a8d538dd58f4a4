"""Ultralytics at work: what a training of ours gives it, and what it leaves."""

import io
import logging
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import read_json, write_json
from tests.train.detector.tiny_gate import TINY, write_data, write_model, write_weights
from train.detector import dataset, ultralytics_run
from train.detector.callbacks import Epochs


def test_a_run_killed_while_its_work_was_removed_does_not_train_again(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"trained")
    write_json(tmp_path / "metrics.json", {"train_seconds": 1.5})
    epochs = Epochs(tmp_path / "work" / "checkpoint.pt", {})
    assert ultralytics_run.train(tmp_path, tmp_path, {}, epochs) == {"train_seconds": 1.5}


def prepared(folder: Path, frames: int) -> tuple[Path, dict[str, dict[str, int]]]:
    """The linked set of a gate's folder, as `train.gate` makes it, and its boxes."""
    data, work = write_data(folder / "data", frames), folder / "work"
    work.mkdir()
    boxes = dataset.count_boxes(data)
    return dataset.link_data(data, work / "data", boxes), boxes


def test_a_training_leaves_its_best_weights_and_states_what_it_took(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, boxes = prepared(tmp_path, frames=4)
    work = tmp_path / "work"
    model = str(write_model(tmp_path / "tiny.yaml"))
    with ultralytics_run.quiet(tmp_path / "train.log", work):
        from ultralytics import settings

        settings.update({"wandb": True, "mlflow": True, "tensorboard": True, "dvc": True})
        for wrong in ({"epoch": 1}, {"epochs": "many"}):
            with pytest.raises(ConfigError, match="Ultralytics refuses the configuration: "):
                ultralytics_run.train(tmp_path, data, {"model": model} | wrong, Epochs(work, boxes))
        config = {**TINY, "model": model, "epochs": 1}
        epochs = Epochs(work / "checkpoint.pt", boxes)
        trained = ultralytics_run.train(tmp_path, data, config, epochs)
        logs = {name: settings[name] for name in ("wandb", "mlflow", "tensorboard", "dvc")}
    assert logs == dict.fromkeys(logs, False)
    assert trained == read_json(tmp_path / "metrics.json")
    assert trained == {
        "images": {"train": 4, "val": 4, "test": 4},
        "boxes": {"train": 3, "val": 3, "test": 3},
        "peak_memory_bytes": trained["peak_memory_bytes"],
        "train_seconds": read_json(work / "cost.json")["train_seconds"],
    }
    assert trained["peak_memory_bytes"] > 1 << 26
    given = yaml.safe_load((work / "run" / "args.yaml").read_text())
    ours = {"data": str(data), "project": str(work), "name": "run", "exist_ok": True}
    assert config | ours == {key: given[key] for key in config | ours}
    assert (tmp_path / "best.pt").stat().st_size > 100_000
    assert [path.name for path in (work / "run" / "weights").iterdir()] == ["last.pt"]
    (line,) = (line for line in capfd.readouterr().out.splitlines() if "[gate]" in line)
    assert line.startswith("[gate] epoch 1/1  box ")

    (work / "run" / "notes.txt").write_text("not kept")
    ultralytics_run.keep_curves(work / "run", tmp_path)
    assert not (work / "run" / "results.csv").exists()
    assert (tmp_path / "results.csv").read_text().startswith("epoch,")
    assert not (tmp_path / "notes.txt").exists()


def test_a_gate_is_measured_on_both_splits_for_each_class_that_occurs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, boxes = prepared(tmp_path, frames=4)
    for split in ("images", "labels"):
        for frame in (data.parent / split / "test").glob("2.*"):
            frame.unlink()  # the only one of a moderate accident
    del boxes["test"]["2"]
    found: list[dict[str, Any]] = []

    def loaded(split: str, expected: object, validator: Any) -> None:
        assert expected == boxes[split]
        found.append(vars(validator.args))

    times = iter([1.0, 8.04, 20.0, 22.26, 30.0, 30.0, 30.0, 30.0])
    monkeypatch.setattr(ultralytics_run, "_refuse_drops", loaded)
    monkeypatch.setattr(ultralytics_run, "time", SimpleNamespace(monotonic=times.__next__))
    with ultralytics_run.quiet(tmp_path / "train.log", tmp_path / "work"):
        weights = write_weights(tmp_path / "best.pt")
        config = {"imgsz": 64, "batch": 3, "iou": 0.5, "device": "cpu"}
        measured = ultralytics_run.measure(weights, data, config, boxes)
        one_class = {"imgsz": 64, "single_cls": True}
        single = ultralytics_run.measure(weights, data, one_class, boxes)
    assert measured.keys() == {"val", "test"}
    val, test = measured["val"], measured["test"]
    severe = {"precision": 0.239, "recall": 1.0, "AP50": 0.249, "AP": 0.224}
    moderate = {"precision": 0.081, "recall": 1.0, "AP50": 0.199, "AP": 0.02}
    assert val["classes"]["severe"] == pytest.approx(severe, abs=0.002)
    assert val["classes"]["moderate"] == pytest.approx(moderate, abs=0.002)
    assert (val["mAP50"], val["mAP50-95"]) == pytest.approx((0.224, 0.122), abs=0.002)
    assert list(test["classes"]) == ["severe"]
    assert (test["mAP50"], test["mAP50-95"]) == pytest.approx((0.4975, 0.1818), abs=0.002)
    assert (val["seconds"], test["seconds"]) == (7.0, 2.3)
    assert single["val"]["classes"].keys() == {"accident"}
    keys = {
        "data": str(data), "imgsz": 64, "batch": 3, "iou": 0.5, "single_cls": False,
        "device": "cpu", "workers": 0, "plots": False, "project": str(tmp_path / "work"),
        "exist_ok": True,
    }  # fmt: skip
    assert [{key: given[key] for key in (*keys, "split", "name")} for given in found[:2]] == [
        keys | {"split": split, "name": f"measured-{split}"} for split in ("val", "test")
    ]
    defaults = ("batch", "iou", "single_cls", "device")
    assert [found[2][key] for key in defaults] == [16, 0.7, True, None]


def test_a_set_that_ultralytics_does_not_take_whole_is_not_measured(tmp_path: Path) -> None:
    data, boxes = prepared(tmp_path, frames=4)
    boxes["test"]["2"] = 2
    with ultralytics_run.quiet(tmp_path / "train.log", tmp_path / "work"):
        weights = write_weights(tmp_path / "best.pt")
        with pytest.raises(DataError, match=r"labels/test/2\.txt: Ultralytics took 1 of 2 boxes"):
            ultralytics_run.measure(weights, data, {"imgsz": 64, "batch": 3}, boxes)


LOGGER = logging.getLogger("ultralytics")


def streams() -> list[Any]:
    return [h.stream for h in LOGGER.handlers if type(h) is logging.StreamHandler]


def test_a_run_is_offline_and_writes_into_its_log_until_it_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    for name in ("YOLO_CONFIG_DIR", "YOLO_AUTOINSTALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("YOLO_OFFLINE", "0")
    monkeypatch.chdir(tmp_path)
    closed, other = io.StringIO(), logging.FileHandler(tmp_path / "other.log")
    terminal = logging.StreamHandler(closed)
    closed.close()  # as the one that was stdout when Ultralytics was imported
    for handler in (terminal, other):
        LOGGER.addHandler(handler)
        request.addfinalizer(partial(LOGGER.removeHandler, handler))
    request.addfinalizer(other.close)
    log = tmp_path / "train.log"
    log.write_text("of an earlier start\n")
    with ultralytics_run.quiet(log, Path("work")):
        assert os.environ["YOLO_CONFIG_DIR"] == str(tmp_path / "work")
        assert (os.environ["YOLO_AUTOINSTALL"], os.environ["YOLO_OFFLINE"]) == ("false", "0")
        print("printed ✅")
        print("a warning", file=sys.stderr)
        LOGGER.info("logged")
    assert set(streams()) == {sys.__stdout__}
    told = log.read_text("utf-8")
    assert told.startswith("of an earlier start\n")
    assert "printed ✅\na warning\nlogged\n" in told
    assert (tmp_path / "other.log").read_text().endswith("logged\n")
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("YOLO_OFFLINE")
    with ultralytics_run.quiet(log, Path("work")):
        assert os.environ["YOLO_OFFLINE"] == "true"


def test_a_run_that_fails_shows_the_end_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"line {number}\n" for number in range(20)) + " 10%\r 20%\r 30%\n")
    with pytest.raises(DataError, match="no boxes"), ultralytics_run.quiet(log, tmp_path):
        raise DataError("no boxes")
    told = [f"[gate] the end of {log}:", *(f"line {number}" for number in range(6, 20)), " 30%"]
    assert capsys.readouterr() == ("", "\n".join(told) + "\n")
    assert set(streams()) == {sys.__stdout__}
    with pytest.raises(ConfigError), ultralytics_run.quiet(log, tmp_path):
        raise ConfigError("epochs is -1")
    assert capsys.readouterr() == ("", "")


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
