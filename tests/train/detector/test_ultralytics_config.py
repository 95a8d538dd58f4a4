import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dat_runtime.errors import ConfigError
from tests.train.detector.tiny_gate import write_config
from train.detector import dataset
from train.detector.ultralytics_config import (
    deciding,
    demand_device,
    demand_weights,
    read_config,
    weights_in,
)

CONFIGS = sorted(Path("configs/yolo").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_configuration_begins_with_the_command_that_runs_it(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith(f"# python -m train.gate --config {path} --data ")
    assert read_config(path)["model"].startswith("yolo12")


def test_there_are_configurations() -> None:
    assert {p.name for p in CONFIGS} >= {"smoke.yaml", "gate_1cls.yaml", "gate_2cls.yaml"}


def test_the_two_gates_of_figure_4_differ_in_their_classes_alone() -> None:
    one, two = (read_config(Path(f"configs/yolo/gate_{n}cls.yaml")) for n in (1, 2))
    assert one.pop("single_cls") is True
    assert one == two
    assert dataset.names_of({"single_cls": True}) == ("accident",)
    assert dataset.names_of(two) == ("moderate", "severe")


def test_an_override_on_the_command_line_wins_and_keeps_its_type(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml")
    config = read_config(path, ["epochs=3", "lr0=1e-3", "val=true", "device=0,1"])
    assert (config["epochs"], config["lr0"], config["val"]) == (3, 0.001, True)
    assert config["device"] == "0,1"


def test_pretrained_weights_that_are_not_there_are_a_question(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml", pretrained="absent.pt")
    with pytest.raises(ConfigError, match=r"absent\.pt are not there: fetch .* pretrained=false"):
        demand_weights(read_config(path))
    demand_weights(read_config(path, ["pretrained=false"]))
    (tmp_path / "there.pt").write_bytes(b"")
    demand_weights(read_config(path, [f"pretrained={tmp_path / 'there.pt'}"]))


def test_a_model_is_a_file_or_one_of_ultralytics_own(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml")
    for model in ("yolo12s.yaml", "yolo11n.yaml", "yolo12n.pt"):
        assert read_config(path, [f"model={model}"])["model"] == model
    own = tmp_path / "own.yaml"
    own.write_text("nc: 2")
    read_config(path, [f"model={own}"])
    with pytest.raises(ConfigError, match=r"own2\.yaml: neither a file nor a model of"):
        read_config(path, [f"model={tmp_path / 'own2.yaml'}"])


def test_a_card_that_is_not_there_is_refused() -> None:
    import torch

    there = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=f"device={there}, and this machine has"):
        demand_device({"device": there})
    for device in (None, "cpu", "mps"):
        demand_device({"device": device})


@pytest.mark.parametrize(
    ("changes", "overrides", "complaint"),
    [
        ({"model": "-"}, [], "`model` among them"),
        ({"data": "/elsewhere.yaml"}, [], "data is set by train.gate"),
        ({}, ["project=x"], "project is set by train.gate"),
        ({"fraction": 0.5}, [], "fraction=0.5 would leave a part of the set out"),
        ({}, ["classes=[1]"], "would leave a part of the set out"),
        ({}, ["time=0.5"], "time=0.5 would end the training by the clock"),
        ({"save": False}, [], "save=False would keep no weights"),
        ({}, ["save_period=5"], "save_period=5 would keep copies in a folder that is removed"),
        ({"imgsz": 100}, [], "multiple of 32"),
        ({"imgsz": 0}, [], "multiple of 32"),
        ({}, ["imgsz=-64"], "multiple of 32"),
        ({}, ["hsv_s=["], "not YAML"),
        ({}, ["epoch=2"], "epoch is no key of Ultralytics: is epochs meant?"),
        ({}, ["qqqqqq=2"], "qqqqqq is no key of Ultralytics"),
        ({}, ["epochs=abc"], "epochs is 'abc', expected a number"),
        ({}, ["epochs"], "expected key=value"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict, overrides: list, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read_config(write_config(tmp_path / "c.yaml", **changes), overrides)


@pytest.mark.parametrize("text", ["- a list", "a: [", "!!python/object/apply:os.getcwd []"])
def test_a_configuration_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_config(tmp_path / "c.yaml")


def test_what_gate_json_states_is_there_whatever_the_file_says(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml")
    path.write_text("model: yolo12n.yaml\n")
    assert read_config(path) == {"model": "yolo12n.yaml", "imgsz": 640}
    assert read_config(path, ["imgsz=320", "iou=0.5"])["imgsz"] == 320


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("imgsz=100", "imgsz is 100, expected"),
        ("iou=2", "iou is 2, expected"),
        ("model=data.yaml", "model is data.yaml: neither a file nor a model of Ultralytics' own"),
        (
            "batch=-1",
            "batch is -1, expected a whole number of pictures: one that Ultralytics chooses by the "
            "free memory makes another training each time; make rehearse says which is the largest "
            "that fits",
        ),
        ("batch=0.7", "batch is 0.7, expected a whole number of pictures"),
        ("batch=0", "batch is 0, expected a whole number of pictures"),
    ],
)
def test_a_refusal_begins_with_its_key(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_config(write_config(tmp_path / "c.yaml"), [override])
    assert str(refused.value).startswith(told)
    read_config(write_config(tmp_path / "c.yaml"), ["batch=1"])


def test_weights_that_are_not_there_are_told_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as refused:
        demand_weights({"model": "gone.pt", "pretrained": True})
    assert str(refused.value) == (
        "the weights gone.pt are not there: fetch them into this folder (docs/gate.md says from "
        "where), or train from nothing with pretrained=false"
    )
    named = {"model": "a.pt", "pretrained": "b.pt"}
    assert weights_in(named) == {"model": Path("a.pt"), "pretrained": Path("b.pt")}
    assert weights_in({"model": "a.yaml", "pretrained": True}) == {}


@pytest.mark.parametrize(("there", "words"), [(0, "no CUDA cards"), (2, "2 CUDA cards")])
def test_cards_are_counted(monkeypatch: pytest.MonkeyPatch, there: int, words: str) -> None:
    """In place of torch, which takes seconds to import."""
    cards = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: there))
    monkeypatch.setitem(sys.modules, "torch", cards)
    for device in (None, "cpu", "mps", *range(there)):
        demand_device({"device": device})
    demand_device({})
    with pytest.raises(ConfigError) as refused:
        demand_device({"device": f"0,{there}"})
    assert str(refused.value) == (
        f"device=0,{there}, and this machine has {words}: device=cpu trains on the CPU, and "
        "without device the first card is taken"
    )


def test_what_is_printed_and_read_ahead_decides_no_weight() -> None:
    idle = {"plots": False, "verbose": True, "profile": False, "workers": 3}
    assert deciding({"epochs": 3, **idle}) == {"epochs": 3}
