"""The gate's rehearsal: from two short epochs to the whole training."""

from pathlib import Path

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
