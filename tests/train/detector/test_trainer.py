"""The trainer beside Ultralytics' own: its set, its stream of pictures, when it writes weights."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.train.detector.tiny_gate import TINY, write_data
from train.detector import dataset


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    data = write_data(folder / "data", frames=7)
    return dataset.link_data(data, folder / "linked", dataset.count_boxes(data)).parent


def trainer_of(**keys: Any) -> Any:
    """A trainer as far as it builds its data, which needs no more of its model than the stride."""
    import torch
    from ultralytics.cfg import get_cfg

    from train.detector.trainer import GateTrainer

    trainer = object.__new__(GateTrainer)
    vars(trainer).update(
        args=get_cfg(overrides={**TINY, "compile": False, **keys}),
        data={"names": {0: "moderate", 1: "severe"}, "channels": 3, "nc": 2},
        device=torch.device("cpu"),
        model=SimpleNamespace(stride=torch.tensor([64.0])),
        stride=64,
    )
    return trainer


def settings_of(made: Any) -> dict[str, str]:
    """What a data set was built with and found, as text without places in memory."""
    return {key: re.sub(r" at 0x\w+", "", str(value)) for key, value in vars(made).items()}


@pytest.mark.parametrize(
    "keys",
    [
        {"imgsz": 64},
        {"imgsz": 96, "rect": True, "single_cls": True, "fraction": 0.6, "hsv_h": 0.5},
        {"classes": [1], "cache": "ram", "degrees": 5.0},
    ],
)
def test_the_training_set_is_built_as_ultralytics_builds_it(
    linked: Path, keys: dict[str, Any]
) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    from train.detector.repeatable import RepeatableDataset

    trainer, path = trainer_of(**keys), str(linked / "images" / "train")
    ours = trainer.build_dataset(path, "train", 4)
    theirs = DetectionTrainer.build_dataset(trainer, path, "train", 4)
    assert type(ours) is RepeatableDataset
    own = {"_in_memory"}
    assert {k: v for k, v in settings_of(ours).items() if k not in own} == settings_of(theirs)
    held_out = trainer.build_dataset(str(linked / "images" / "val"), "val", 3)
    assert type(held_out) is type(theirs)
    assert (held_out.rect, held_out.augment, held_out.batch_size) == (True, False, 3)


def test_a_stream_is_of_the_loaders_batches_and_pictures(linked: Path) -> None:
    from ultralytics.data.build import InfiniteDataLoader

    from train.detector.repeatable import EpochLoader

    trainer, path = trainer_of(seed=(1 << 32) + 5), str(linked / "images" / "train")
    loader = trainer.get_dataloader(path, 2, -1, "train")
    assert type(loader) is EpochLoader
    stream = loader.dataset.stream
    assert vars(stream) | {"_earlier": None} == {
        "pictures": 7, "batch": 2, "seed": 5, "workers": 1, "rank": 0, "ranks": 1,
        "shuffled": True, "_batches": 4, "_earlier": None,
    }  # fmt: skip
    assert len(loader.numbers) == 7
    own = trainer.get_dataloader(str(linked / "images" / "val"), 2, -1, "val")
    assert type(own) is InfiniteDataLoader
    one_shape = trainer_of(rect=True).get_dataloader(path, 2, -1, "train")
    assert one_shape.dataset.stream.shuffled is True


def test_of_several_processes_each_has_its_part_and_workers_take_turns(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of Ultralytics' loader, which would ask the other processes."""
    from torch.utils.data import SequentialSampler
    from torch.utils.data.distributed import DistributedSampler
    from ultralytics.data.build import InfiniteDataLoader
    from ultralytics.models.yolo.detect import DetectionTrainer

    trainer, path = trainer_of(), str(linked / "images" / "train")
    frames = trainer.build_dataset(path, "train", 2)
    given: list[Any] = []

    def their_loader(self: Any, *arguments: Any) -> Any:
        given.append(arguments)
        return InfiniteDataLoader(dataset=frames, batch_size=2, num_workers=2, sampler=sampler)

    monkeypatch.setattr(InfiniteDataLoader, "_get_iterator", lambda self: None)
    monkeypatch.setattr(DetectionTrainer, "get_dataloader", their_loader)
    sampler: Any = DistributedSampler(frames, num_replicas=3, rank=1)
    loader = trainer.get_dataloader(path, 2, 1)
    stream = loader.dataset.stream
    assert (stream.rank, stream.ranks, stream.workers, stream.shuffled) == (1, 3, 2, True)
    assert len(loader.numbers) == len(stream) == 3
    sampler = SequentialSampler(frames)
    stream = trainer.get_dataloader(path).dataset.stream
    assert (stream.rank, stream.ranks, stream.shuffled) == (0, 1, False)
    assert given == [(path, 2, 1, "train"), (path, 16, 0, "train")]


@pytest.mark.parametrize(
    ("fitness", "best", "stop", "due", "written"),
    [
        (0.5, 0.6, False, False, False),
        (0.6, 0.6, False, False, True),
        (None, None, False, False, False),
        (0.5, 0.6, True, False, True),
        (0.5, 0.6, False, True, True),
    ],
)
def test_weights_are_written_where_they_are_the_best_the_last_or_due(
    monkeypatch: pytest.MonkeyPatch,
    fitness: float | None,
    best: float | None,
    stop: bool,
    due: bool,
    written: bool,
) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    trainer, saved = trainer_of(), []
    monkeypatch.setattr(DetectionTrainer, "save_model", lambda self: saved.append(self) or True)
    trainer.fitness, trainer.best_fitness, trainer.stop = fitness, best, stop
    trainer.checkpoints = SimpleNamespace(is_due=lambda: due)
    assert trainer.save_model() is written
    assert saved == [trainer] * written


def test_checkpoints_take_at_most_a_hundredth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from train.detector import trainer

    now = [1000.0]
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    checkpoints = trainer.Checkpoints()
    for seconds, pause in ((0.1, 60.0), (2.0, 200.0)):
        assert checkpoints.is_due()
        with checkpoints.written():
            now[0] += seconds
        now[0] += pause - 0.1
        assert not checkpoints.is_due()
        now[0] += 0.1001
    now[0] -= 1e-9
    with checkpoints.written():
        pass
    now[0] += 60.0  # as soon as it is due
    assert checkpoints.is_due()
