"""The gate's rehearsal: from two short epochs to the whole training."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.errors import ConfigError
from tests.train.detector.tiny_gate import TINY, write_data
from train.detector import rehearsal
from train.detector.dataset import count_boxes

BOXES = {"train": {str(i): 1 for i in range(90)}, "val": {str(i): 1 for i in range(33)}}
CONFIG = {"batch": 8, "epochs": 10}


def timed(**changes) -> rehearsal.Timed:
    found = rehearsal.Timed(Path("checkpoint.pt"), BOXES)
    found.began, found.ends = found.created + 7, [20.0, 30.0]
    found.batches, found.validated = [0.9, 1.1, 1.0, 1.0], [2.0, 1.0]
    found.batch_size = 8
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_all_epochs_take_their_batches_their_validations_and_what_is_left() -> None:
    found = rehearsal.project(timed(), CONFIG, BOXES, disk=1)
    # 12 batches of 1 s, 3 validation batches (of 16) of 1.5 s, and 3 s of 10 that are neither.
    assert found.seconds[0] == pytest.approx(10 * (12 + 4.5 + 3))
    # Student's t for three degrees of freedom is 3.1824; the error of the mean sqrt(0.02 / 3 / 4).
    assert found.seconds[2] - found.seconds[0] == pytest.approx(120 * 3.1824 * 0.0408248, rel=1e-4)
    assert (found.batch, found.epoch, found.start) == pytest.approx((1, 19.5, 7))
    assert found.largest_batch is None
    once = rehearsal.project(timed(), CONFIG | {"val": False}, BOXES, disk=1)
    assert once.seconds[0] == pytest.approx(10 * (12 + 3) + 4.5)


def test_batches_that_workers_had_ready_do_not_count() -> None:
    ready = [0.01] * rehearsal.READY
    found = rehearsal.project(timed(workers=1, batches=[*ready, 2, 2, 2]), CONFIG, BOXES, disk=1)
    assert found.batch == pytest.approx(2)
    # Of a set so small that all of it was ready, an epoch takes what it took.
    found = rehearsal.project(timed(workers=2, batches=[*ready, 2, 2, 2]), CONFIG, BOXES, disk=1)
    assert found.batch == pytest.approx(6.04 / 7)
    with pytest.raises(ConfigError, match="2 batches in an epoch"):
        rehearsal.project(timed(batches=[1, 1]), CONFIG, BOXES, disk=1)


def test_the_largest_batch_leaves_a_margin_beside_what_stays() -> None:
    card = ("a card", 10_500_000_000)
    found = timed(card=card, peak=3_000_000_000, resident=1_000_000_000)
    assert rehearsal.project(found, CONFIG, BOXES, disk=1).largest_batch == 36


def test_what_is_expected_is_told_to_the_letter() -> None:
    card = ("A100", 42_400_000_000)
    found = rehearsal.project(
        timed(card=card, peak=3_004_000_000, resident=1_000_000_000), CONFIG, BOXES, disk=12_300_000
    )
    rows = dict(found.rows())
    hours = rows.pop("to the end")
    assert hours.startswith("0.05 hours, 95 % interval 0.05 to 0.06")
    assert rows == {
        "epochs": "10, fewer where patience ends it",
        "an epoch": "19.5 s",
        "a batch": "1.000 s",
        "peak memory, measured": "3.00 GB of 42.4 GB, A100",
        "largest batch that fits": "157",
        "a start or a resume": "7 s",
        "disk": "0.01 GB",
    }
    without = dict(rehearsal.project(timed(), CONFIG, BOXES, disk=1).rows())
    assert without["peak memory, measured"].endswith(
        " GB of the process, libraries with it: no card"
    )
    assert without["largest batch that fits"] == "no card"


class Model:
    """Of Ultralytics: calls what the clock registered, but not what every training does."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Any]] = {}

    def add_callback(self, event: str, work: Any) -> None:
        if work.__func__ in vars(rehearsal.Timed).values():
            self.callbacks.setdefault(event, []).append(work)

    def tell(self, event: str, given: Any) -> None:
        for work in self.callbacks[event]:
            work(given)


def test_the_second_epoch_is_timed_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 200))
    monkeypatch.setattr(rehearsal, "_now", lambda: float(next(clock)))
    monkeypatch.setattr(rehearsal, "_memory", lambda: (("A100", 9), 7, 5))
    found, model = rehearsal.Timed(Path("checkpoint.pt"), BOXES), Model()
    found.register(model)
    loader = SimpleNamespace(num_workers=3)
    stops = []
    for epoch in range(3):
        trainer = SimpleNamespace(epoch=epoch, stop=False, train_loader=loader, batch_size=8)
        model.tell("on_train_epoch_start", trainer)
        for _ in range(2):
            model.tell("on_train_batch_end", trainer)
        model.tell("on_train_epoch_end", trainer)
        stops.append(trainer.stop)
        model.tell("on_val_start", trainer)
        model.tell("on_val_batch_end", trainer)
        model.tell("on_fit_epoch_end", trainer)
    assert stops == [False, True, True]
    assert found.began == 100
    assert found.ends == [105, 111]  # six moments an epoch; the last comes once more
    assert (found.batches, found.validated) == ([1, 1], [1])
    assert (found.workers, found.batch_size) == (3, 8)
    assert (found.card, found.peak, found.resident) == (("A100", 9), 7, 5)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the training was given, which itself is left out; `fits` is the batch that does."""
    given: dict[str, Any] = {"fits": 8}

    @contextlib.contextmanager
    def quiet(log: Path, work: Path) -> Iterator[None]:
        given["log"], given["work"] = log, work
        yield

    def link_data(data: Path, work: Path, images: Any) -> Path:
        given["data"], given["linked"], given["part"] = data, work, images
        return work / "data.yaml"

    def train(gate: Path, data: Path, config: Any, epochs: rehearsal.Timed) -> None:
        given["gate"], given["config"] = gate, config
        assert data == given["linked"] / "data.yaml"
        gate.mkdir()
        (gate / "best.pt").write_bytes(bytes(3000))
        (gate / "weights").mkdir()
        (gate / "weights" / "last.pt").write_bytes(bytes(4000))
        (gate / "log.csv").write_bytes(bytes(500))
        for name, value in vars(timed(batch_size=given["fits"])).items():
            setattr(epochs, name, value)

    monkeypatch.setattr(rehearsal.ultralytics_run, "quiet", quiet)
    monkeypatch.setattr(rehearsal.ultralytics_run, "train", train)
    monkeypatch.setattr(rehearsal, "link_data", link_data)
    return given


def test_a_part_of_the_set_is_drawn_and_nothing_but_the_log_is_left(
    tmp_path: Path, trained: dict[str, Any]
) -> None:
    config = CONFIG | {"model": "yolo12s.pt", "workers": 1, "seed": 3}
    found = rehearsal.rehearse(tmp_path, tmp_path / "data", config, BOXES, batches=6)
    assert found.disk == 7000
    assert not (tmp_path / "gate").exists()
    gate = tmp_path / "gate"
    assert (trained["gate"], trained["work"], trained["log"]) == (
        *(gate, gate / "work", tmp_path / "gate.log"),
    )
    assert (trained["data"], trained["linked"]) == (tmp_path / "data", gate / "work" / "data")
    assert trained["config"] == rehearsal.without_weights(config)
    part = trained["part"]
    assert {split: len(of) for split, of in part.items()} == {"train": 80, "val": 33}
    assert part["val"] == BOXES["val"]
    assert part["train"].items() < BOXES["train"].items()
    rehearsal.rehearse(tmp_path, tmp_path / "data", config, BOXES, batches=6)
    assert trained["part"] == part
    rehearsal.rehearse(tmp_path, tmp_path / "data", config | {"seed": 4}, BOXES, batches=6)
    assert trained["part"] != part


def test_a_rehearsal_is_of_one_card_and_of_the_batch_that_is_stated(
    tmp_path: Path, trained: dict[str, Any]
) -> None:
    config = CONFIG | {"model": "yolo12s.yaml", "workers": 1}
    with pytest.raises(ConfigError) as refused:
        rehearsal.rehearse(tmp_path, tmp_path, config | {"device": "0,1"}, BOXES, batches=6)
    assert str(refused.value) == (
        "a rehearsal is for one card: device=0, with its share of the batch"
    )
    trained["fits"] = 4
    with pytest.raises(ConfigError) as refused:
        rehearsal.rehearse(tmp_path, tmp_path, config, BOXES, batches=6)
    assert str(refused.value) == "the gate's batch=8 does not fit the card's memory: 4 did"


def test_weights_are_random_and_need_no_file() -> None:
    keys = {"model": "yolo12s.pt", "pretrained": "yolo12s.pt", "epochs": 1, "imgsz": 64}
    blank = {"model": "yolo12s.yaml", "pretrained": False, "epochs": 2, "imgsz": 64}
    assert rehearsal.without_weights(keys) == blank


@pytest.mark.slow
def test_a_rehearsal_trains_a_part_of_the_set_and_keeps_no_weights(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", frames=16)
    config = {**TINY, "epochs": 30}
    found = rehearsal.rehearse(tmp_path, data, config, count_boxes(data), batches=3)
    assert found.epochs == 30
    # 4 of the set's batches of 4, of which 3 were rehearsed.
    assert 30 * 4 * found.batch < found.seconds[0]
    assert found.seconds[1] < found.seconds[0] < found.seconds[2]
    assert found.disk > 10_000_000
    assert {path.name for path in tmp_path.iterdir()} == {"data", rehearsal.LOG}
    with pytest.raises(ConfigError, match="for one card: device=0"):
        rehearsal.rehearse(tmp_path, data, {**TINY, "device": "0,1"}, count_boxes(data), batches=3)
