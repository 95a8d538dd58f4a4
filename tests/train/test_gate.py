import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from dat_runtime import manifest
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.stage import Stage
from dat_runtime.types import Box, Detection, Size
from train import gate
from train.detector import dataset
from train.detector.callbacks import Epochs, refuse_drops
from train.detector.onnx_export import MAX_CONFIDENCE_GAP, MIN_IOU, partner

CONFIGS = sorted(Path("configs/yolo").glob("*.yaml"))
TINY = {
    "model": "yolo12n.yaml", "pretrained": False, "imgsz": 64, "epochs": 2, "batch": 4, "nbs": 4,
    "optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 0, "close_mosaic": 1, "workers": 0,
    "amp": False, "val": False, "plots": False, "device": "cpu",
}  # fmt: skip


def detection(x: float, confidence: float) -> Detection:
    return Detection(Box(x, 10, x + 100, 60, Size(200, 100)), "severe", confidence)


def write_config(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({k: v for k, v in {**TINY, **changes}.items() if v != "-"}))
    return path


def write_data(folder: Path, frames: int = 8, **config: Any) -> Path:
    """A prepared set of grey frames with one bright box each; every fourth is a negative."""
    random = np.random.default_rng(0)
    with Stage(folder, kind="data", inputs={}, config=config) as partial:
        for split in dataset.SPLITS:
            for kind in ("images", "labels"):
                (partial / kind / split).mkdir(parents=True)
            for i in range(frames):
                image = random.integers(0, 99, (48, 80, 3), np.uint8)
                row = f"{i % 2} 0.5 0.5 0.4 0.5" if i % 4 else ""
                if row:
                    image[12:36, 24:56] = 255
                cv2.imwrite(str(partial / "images" / split / f"{i}.jpg"), image)
                (partial / "labels" / split / f"{i}.txt").write_text(row)
        groups = {split: {str(i): str(i) for i in range(frames)} for split in dataset.SPLITS}
        (partial / "groups.json").write_text(json.dumps(groups))
        # Ultralytics rewrites a JPEG that does not end with its end marker.
        odd = partial / "images" / "train" / "1.jpg"
        odd.write_bytes(odd.read_bytes() + b"\0")
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_configuration_begins_with_the_command_that_runs_it(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith(f"# python -m train.gate --config {path} --data ")
    assert gate.read_config(path)["model"].startswith("yolo12")


def test_there_are_configurations() -> None:
    assert {p.name for p in CONFIGS} >= {"smoke.yaml", "gate_1cls.yaml", "gate_2cls.yaml"}


def test_the_two_gates_of_figure_4_differ_in_their_classes_alone() -> None:
    one, two = (gate.read_config(Path(f"configs/yolo/gate_{n}cls.yaml")) for n in (1, 2))
    assert one.pop("single_cls") is True
    assert one == two
    assert dataset.names_of({"single_cls": True}) == ("accident",)
    assert dataset.names_of(two) == ("moderate", "severe")


def test_an_override_on_the_command_line_wins_and_keeps_its_type(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml")
    config = gate.read_config(path, ["epochs=3", "lr0=1e-3", "val=true", "device=0,1"])
    assert (config["epochs"], config["lr0"], config["val"]) == (3, 0.001, True)
    assert config["device"] == "0,1"


def test_pretrained_weights_that_are_not_there_mean_training_from_the_definition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = gate.read_config(write_config(tmp_path / "c.yaml", pretrained="absent.pt"))
    assert config["pretrained"] is False
    assert "absent.pt is not there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "overrides", "complaint"),
    [
        ({"model": "-"}, [], "`model` among them"),
        ({"data": "/elsewhere.yaml"}, [], "data is set by train.gate"),
        ({}, ["project=x"], "project is set by train.gate"),
        ({"imgsz": 100}, [], "multiple of 32"),
        ({"imgsz": 0}, [], "multiple of 32"),
        ({}, ["imgsz=-64"], "multiple of 32"),
        ({}, ["hsv_s=["], "not YAML"),
        ({}, ["epochs"], "expected key=value"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict, overrides: list, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        gate.read_config(write_config(tmp_path / "c.yaml", **changes), overrides)


@pytest.mark.parametrize("text", ["- a list", "a: [", "!!python/object/apply:os.getcwd []"])
def test_a_configuration_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        gate.read_config(tmp_path / "c.yaml")


def test_boxes_are_counted_per_image_and_a_missing_label_file_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", frames=4)
    assert dataset.count_boxes(data)["val"] == {"0": 0, "1": 1, "2": 1, "3": 1}
    (data / "labels" / "val" / "2.txt").unlink()
    with pytest.raises(DataError, match=r"val/2\.jpg: has no label file"):
        dataset.count_boxes(data)


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


def test_a_run_killed_while_its_work_was_removed_does_not_train_again(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"trained")
    gate.write_json(tmp_path / "metrics.json", {"train_seconds": 1.5})
    epochs = Epochs(tmp_path / "work" / "checkpoint.pt", {})
    assert gate.train(tmp_path, tmp_path, {}, epochs) == {"train_seconds": 1.5}


def test_an_image_or_a_box_that_ultralytics_left_out_is_an_error() -> None:
    loaded = [{"im_file": "/x/a.jpg", "cls": [0, 1]}, {"im_file": "/x/b.jpg", "cls": []}]
    refuse_drops("train", loaded, {"a": 2, "b": 0})
    with pytest.raises(DataError, match="skipped 1 of 3 images of train, first c"):
        refuse_drops("train", loaded, {"a": 2, "b": 0, "c": 1})
    with pytest.raises(DataError, match=r"labels/train/a\.txt: Ultralytics took 2 of 3 boxes"):
        refuse_drops("train", loaded, {"a": 3, "b": 0})


def test_parity_sees_a_box_that_moved_a_confidence_that_fell_and_a_lost_detection() -> None:
    trained = detection(20, 0.8)
    assert partner(trained, [detection(20, 0.3), trained]) == (1.0, 0.0)
    assert partner(trained, [detection(22, 0.8)])[0] < MIN_IOU
    assert partner(trained, [detection(20, 0.798)])[1] > MAX_CONFIDENCE_GAP
    assert partner(trained, []) == (0.0, 1.0)


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
    with gate.quiet(folder / "train.log", work):
        gate.train(folder, linked, {**TINY, **keys}, epochs(work / "checkpoint.pt", boxes))
    return torch.load(folder / "best.pt", weights_only=False)["model"].state_dict()


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


CHILD = """
import sys
sys.path = {path!r}
from ultralytics.utils.patches import torch_load
state = torch_load({state!r}, map_location="cpu")
for event in ("on_pretrain_routine_end", "on_train_epoch_start", "on_model_save"):
    callback = state["callbacks"][event][-1]
    print("=", type(callback.__self__).__module__, callback.__name__, callback.__self__.boxes)
"""


@pytest.mark.slow
def test_the_callbacks_reach_the_processes_of_several_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics pickles them into a file that each process loads; no GPU is needed for that."""
    from types import SimpleNamespace

    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    from ultralytics.utils import dist
    from ultralytics.utils.callbacks import get_default_callbacks

    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    callbacks = get_default_callbacks()
    trained = SimpleNamespace(add_callback=lambda event, call: callbacks[event].append(call))
    Epochs(tmp_path / "checkpoint.pt", {"train": {"a": 2}}).register(trained)
    trainer = SimpleNamespace(args=SimpleNamespace(), model="yolo12n.yaml", callbacks=callbacks)
    state = Path(dist.generate_ddp_file(trainer)).with_suffix(".pt")
    child = CHILD.format(path=sys.path, state=str(state))
    run = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert [line for line in run.stdout.splitlines() if line.startswith("=")] == [
        f"= train.detector.callbacks {name} {{'train': {{'a': 2}}}}"
        for name in ("begin", "seed", "save")
    ], run.stderr


def test_of_several_processes_the_first_alone_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    trainer = SimpleNamespace(epoch=1, epochs=1)
    for rank, writes in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        Epochs(tmp_path / "checkpoint.pt", {}).report(trainer)
        assert (tmp_path / "cost.json").is_file() == writes


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
    data, config = write_data(tmp_path / "data"), write_config(tmp_path / "c.yaml")
    logged = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command(data, config, whole), "--wandb"], env=logged, check=True)
    running = subprocess.Popen(command(data, config, cut), stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    while not running.stdout.readline().startswith("[gate] epoch 1/2"):
        assert running.poll() is None
    running.kill()
    running.wait()
    assert not cut.exists()
    again = subprocess.run(
        command(data, config, cut), stdout=subprocess.PIPE, text=True, check=True
    )
    assert "going on after epoch 1/2" in again.stdout
    assert (cut / "gate.onnx").read_bytes() == (whole / "gate.onnx").read_bytes()
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = run.read_bytes()
    assert b"metrics/mAP50(B)" in content
    assert b"dat-gate" in content
