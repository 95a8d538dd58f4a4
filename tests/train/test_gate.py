import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dat_runtime import manifest
from dat_runtime.edge.detector import YoloDetector
from tests.train.detector.tiny_gate import write_config, write_data
from train import gate
from train.detector import dataset
from train.detector.onnx_export import MAX_CONFIDENCE_GAP, MIN_IOU


def test_data_that_changed_since_it_was_prepared_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = write_data(tmp_path / "data", frames=4), write_config(tmp_path / "c.yaml")
    (data / "labels" / "train" / "1.txt").write_text("1 0.1 0.1 0.1 0.1")
    arguments = ["--config", config, "--data", data, "--out", tmp_path / "gate"]
    assert gate.main([str(a) for a in arguments]) == 1
    assert "labels/train/1.txt changed" in capsys.readouterr().err
    assert not list(tmp_path.glob("gate*"))


def test_a_set_of_a_single_class_trains_a_gate_of_one_class_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", frames=4, single_class=True)
    config = write_config(tmp_path / "c.yaml")
    arguments = ["--config", config, "--data", data, "--out", tmp_path / "gate"]
    assert gate.main([str(a) for a in arguments]) == 1
    complaint = capsys.readouterr().err
    assert "a two-class gate needs moderate and severe" in complaint
    assert "single_cls=true" in complaint
    dataset.demand_classes(data, {"single_cls": True})


METRICS = {
    "images": {"train": 4, "val": 4, "test": 4},
    "peak_memory_bytes": 3 << 29,
    "train_seconds": 71.6,
    "val": {"mAP50": 0.5, "mAP50-95": 0.25049},
    "test": {"mAP50": 0.125, "mAP50-95": 0.0625},
}
PARITY = {"frames": 4, "detections": 3, "raw_confidences": 1_344}
TOLD = "[gate] val mAP50 0.500 mAP50-95 0.250, test mAP50 0.125 mAP50-95 0.062; trained in 72 s, "


def test_a_gate_states_its_recipe_and_tells_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In place of the training, which the slow tests run."""
    given: list[Any] = []

    def make_gate(folder: Path, *others: Any) -> dict[str, Any]:
        given.append((folder, *others))
        (folder / "parity.json").write_text(json.dumps(PARITY))
        return METRICS

    monkeypatch.setattr(gate, "make_gate", make_gate)
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"weights")
    data = write_data(tmp_path / "data", frames=4)
    write_config(tmp_path / "c.yaml", pretrained=str(weights), workers=3)
    paths = ["--config", "c.yaml", "--data", "data", "--out", "gate"]
    capsys.readouterr()
    assert gate.main([*paths, "epochs=5", "--wandb", "--fold", "1/2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("[gate] fold 1/2: ")
    assert told[-2:] == [
        f"{TOLD}1.5 GiB",
        "[gate] gate: gate.onnx answers as the trained model on 4 frames: 3 detections, 1,344 "
        "confidences",
    ]
    ((folder, given_data, config, boxes, wandb),) = given
    assert (folder, given_data) == (tmp_path / "gate.partial", data)
    assert (config["epochs"], config["workers"], wandb) == (5, 3, True)
    held_out = json.loads((tmp_path / "gate" / "held_out.json").read_text())["image_ids"]
    whole = dataset.count_boxes(data)
    kept = {name: count for name, count in whole["train"].items() if name not in held_out}
    assert boxes == {**whole, "train": kept}
    stated = manifest.read(tmp_path / "gate", "gate")
    assert stated.inputs == {
        "data": manifest.digest(data),
        "pretrained": manifest.digest(weights),
    }
    idle = ("workers", "plots")
    assert stated.config == {
        "yolo": {key: value for key, value in config.items() if key not in idle},
        "versions": {"ultralytics": version("ultralytics"), "torch": version("torch")},
        "fold": "1/2",
    }

    assert gate.main([*paths, "--fold", "1/2", "epochs=5", "device=97", "device=cpu"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert gate.main([*paths, "epochs=6"]) == 1  # what took time is not lost by itself
    assert "--restart" in capsys.readouterr().err
    assert gate.main([*paths, "epochs=6", "--restart"]) == 0
    assert (given[-1][3], given[-1][4]) == (whole, False)
    assert "fold" not in manifest.read(tmp_path / "gate", "gate").config
    assert not (tmp_path / "gate" / "held_out.json").exists()
    assert len(given) == 2


def test_a_device_or_weights_that_are_not_there_are_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", frames=4)
    write_config(tmp_path / "c.yaml")
    paths = {"--config": tmp_path / "c.yaml", "--data": data, "--out": tmp_path / "out"}
    given = [str(part) for pair in paths.items() for part in pair]
    for override, told in (("device=97", "device=97, and"), ("pretrained=no.pt", "weights no.pt")):
        assert gate.main([*given, override]) == 1
        assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_what_a_gates_folder_holds_is_made_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of Ultralytics, which the slow tests run."""
    done: list[Any] = []

    def train(folder: Path, linked: Path, config: Any, epochs: Any, wandb: bool) -> Any:
        print("trained")
        done.append(("train", folder, linked, config, wandb))
        assert (epochs.checkpoint, epochs.boxes) == (folder / "work" / "checkpoint.pt", boxes)
        (folder / "work" / "run").mkdir()
        (folder / "work" / "run" / "results.csv").write_text("epoch")
        return {"train_seconds": 1.0}

    def measure(*given: Any) -> Any:
        done.append(("measure", *given))
        return {"val": {}}

    def export_checked(*given: Any) -> None:
        done.append(("export", *given, json.loads((tmp_path / "metrics.json").read_text())))

    monkeypatch.setattr(gate.ultralytics_run, "train", train)
    monkeypatch.setattr(gate.ultralytics_run, "measure", measure)
    monkeypatch.setattr(gate, "export_checked", export_checked)
    data = write_data(tmp_path / "data", frames=4)
    boxes = dataset.count_boxes(data)
    config = {"model": "m.yaml", "epochs": 2}
    metrics = {"train_seconds": 1.0, "val": {}}
    assert gate.make_gate(tmp_path, data, config, boxes, True) == metrics
    linked = tmp_path / "work" / "data" / "data.yaml"
    assert done == [
        ("train", tmp_path, linked, config, True),
        ("measure", tmp_path / "best.pt", linked, config, boxes),
        ("export", tmp_path, data, config, boxes["val"], metrics),
    ]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config
    assert "trained" in (tmp_path / "train.log").read_text()
    assert (tmp_path / "results.csv").read_text() == "epoch"
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_gate_is_trained_from_data_that_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, config = write_data(tmp_path / "data"), write_config(tmp_path / "c.yaml", epochs=1)
    monkeypatch.chdir(tmp_path)
    out = Path("gate")  # relative, as the Makefile gives it
    command = ["--config", str(config), "--data", str(data), "--out", str(out), "lr0=0.001"]
    assert gate.main(command) == 0
    manifest.verify(data, kind="data")
    manifest.verify(out, kind="gate")
    assert "corrupt JPEG restored" in (out / "train.log").read_text()
    assert yaml.safe_load((out / "config.yaml").read_text())["lr0"] == 0.001
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["boxes"] == {"train": 6, "val": 6, "test": 6}
    assert set(metrics["test"]["classes"]) == {"moderate", "severe"}
    parity = json.loads((out / "parity.json").read_text())
    assert parity["frames"] == 8
    assert parity["lowest_iou"] >= MIN_IOU
    assert parity["raw_confidences"] > 0  # a gate of few epochs may detect nothing
    assert parity["largest_raw_gap"] <= MAX_CONFIDENCE_GAP
    YoloDetector.load(out).detect(np.zeros((30, 50, 3), np.uint8))
    assert not (out / "work").exists()
    capsys.readouterr()
    assert gate.main(command) == 0
    assert "up to date" in capsys.readouterr().out

    # As a kill leaves it that came after `work` was removed and before the outputs were listed.
    partial = out.rename("gate.partial")
    listed = json.loads((partial / manifest.NAME).read_text())
    (partial / manifest.NAME).write_text(json.dumps(listed | {"outputs": {}}))
    weights = (partial / "best.pt").read_bytes()
    assert gate.main(command) == 0
    assert manifest.verify(out, kind="gate").outputs.keys() == listed["outputs"].keys()
    assert (out / "best.pt").read_bytes() == weights


@pytest.mark.slow
def test_a_gate_of_one_class_is_trained_measured_and_exported_as_such(tmp_path: Path) -> None:
    data, config = write_data(tmp_path / "data"), write_config(tmp_path / "c.yaml", epochs=1)
    out = tmp_path / "gate"
    command = ["--config", str(config), "--data", str(data), "--out", str(out)]
    assert gate.main([*command, "--fold", "2/2", "single_cls=true"]) == 0
    settings = json.loads((out / "gate.json").read_text())
    assert settings["classes"] == ["accident"]
    held_out = json.loads((out / "held_out.json").read_text())["image_ids"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(held_out) == 4
    assert metrics["images"] == {"train": 4, "val": 8, "test": 8}
    assert set(metrics["test"]["classes"]) == {"accident"}
    assert json.loads((out / "parity.json").read_text())["lowest_iou"] >= MIN_IOU
    detector = YoloDetector.load(out)
    assert detector.settings.classes == (None,)
    assert manifest.verify(out, "gate").config["fold"] == "2/2"


def command(data: Path, config: Path, out: Path) -> list[str]:
    paths = ["--config", str(config), "--data", str(data), "--out", str(out)]
    return [sys.executable, "-m", "train.gate", *paths]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_gives_the_model_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTEST_CURRENT_TEST", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)  # Ultralytics logs nothing in a test
    data, config = write_data(tmp_path / "data"), write_config(tmp_path / "c.yaml", epochs=3)
    logged = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command(data, config, whole), "--wandb"], env=logged, check=True)
    arguments = command(data, config, cut)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith("[gate] epoch 2/3"):
            assert running.poll() is None
        running.kill()
    assert not cut.exists()
    again = subprocess.run(
        command(data, config, cut), stdout=subprocess.PIPE, text=True, check=True
    )
    assert "going on after epoch 1/3" in again.stdout  # the checkpoint of less than a minute ago
    assert (cut / "gate.onnx").read_bytes() == (whole / "gate.onnx").read_bytes()
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = run.read_bytes()
    assert b"metrics/mAP50(B)" in content
    assert b"dat-gate" in content
