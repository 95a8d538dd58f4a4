import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.detector.tiny_gate import TINY, write_data
from train.detector import dataset

FRAMES, BATCH = 24, 4
BATCHES = FRAMES // BATCH


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    data = write_data(folder / "data", frames=FRAMES)
    return dataset.link_data(data, folder / "linked", dataset.count_boxes(data)).parent


def loader(linked: Path, workers: int, drawn_for: int) -> Any:
    """As the trainer makes it; mosaics are drawn as for `drawn_for` workers."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader
    from ultralytics.utils.torch_utils import init_seeds

    from train.detector.repeatable import EpochLoader, RepeatableDataset
    from train.detector.stream import Stream

    init_seeds(workers)  # what came before decides nothing
    frames = RepeatableDataset(
        str(linked / "images" / "train"),
        imgsz=64,
        batch_size=1,  # so that 7 of the 24 pictures are kept in memory
        hyp=get_cfg(overrides=TINY | {"mixup": 0.5}),
        data={"names": {0: "a", 1: "b"}},
    )
    frames.stream = Stream(FRAMES, BATCH, seed=1, workers=drawn_for)
    return EpochLoader(build_dataloader(frames, BATCH, workers, device="cpu"), FRAMES)


def epoch_of(made: Any, epoch: int) -> list[Any]:
    made.go_to(epoch)
    return [(batch["im_file"], batch["bboxes"].tolist(), batch["img"].clone()) for batch in made]


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) == BATCHES and all(
        a[:2] == b[:2] and bool((a[2] == b[2]).all()) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("drawn_for", [1, 2])
def test_an_epoch_has_the_same_batches_whatever_came_before_and_whoever_makes_them(
    linked: Path, drawn_for: int
) -> None:
    alone, workers = (loader(linked, count, drawn_for) for count in (0, 2))
    unbroken = [epoch_of(alone, epoch) for epoch in range(3)]
    assert same(epoch_of(workers, 0), unbroken[0])
    pids = [worker.pid for worker in workers.iterator._workers]
    assert same(epoch_of(workers, 1), unbroken[1])
    assert [worker.pid for worker in workers.iterator._workers] == pids
    # Begun at the last, as a run that goes on does; and an epoch that Ultralytics does again.
    resumed = loader(linked, 2, drawn_for)
    for again in range(2):
        assert same(epoch_of(resumed, 2), unbroken[2]), again
    for made in (workers, resumed):
        made.close()
    assert not same(unbroken[0], unbroken[1])


def test_an_epoch_begun_at_has_the_batches_of_one_that_was_reached(linked: Path) -> None:
    """The fast part of the test above: without processes of their own."""
    made, begun = loader(linked, 0, 2), loader(linked, 0, 2)
    assert (len(made), len(made.numbers), made.num_workers) == (BATCHES, FRAMES, 0)
    reached = [epoch_of(made, epoch) for epoch in (0, 1)]
    assert same(epoch_of(begun, 1), reached[1])
    assert same(epoch_of(begun, 1), reached[1])
    assert same(epoch_of(begun, 0), reached[0])
    assert not same(reached[0], reached[1])
    names = sorted(Path(name).name for batch in reached[0] for name in batch[0])
    assert names == sorted(f"{number}.jpg" for number in range(FRAMES))


def test_a_sampler_goes_on_from_epoch_to_epoch_whatever_ultralytics_says() -> None:
    from train.detector.repeatable import EpochSampler

    numbers = EpochSampler(3)
    assert len(numbers) == 3
    assert [list(numbers), list(numbers)] == [[0, 1, 2], [3, 4, 5]]
    numbers.set_epoch(0)
    assert list(numbers) == [6, 7, 8]
    numbers.next_epoch = 1
    assert list(numbers) == [3, 4, 5]


def test_a_loader_has_the_settings_of_ultralytics_own(linked: Path) -> None:
    from train.detector.repeatable import EpochLoader

    own = loader(linked, 0, 1)
    generator = torch.Generator()
    settings = {
        "dataset": own.dataset, "batch_size": 5, "num_workers": 2, "prefetch_factor": 7,
        "pin_memory": True, "pin_memory_device": "", "collate_fn": own.collate_fn,
        "worker_init_fn": print, "generator": generator, "drop_last": True,
    }  # fmt: skip
    ours = EpochLoader(SimpleNamespace(**settings), FRAMES)  # type: ignore[arg-type]
    assert {name: getattr(ours, name) for name in settings} == settings
    assert (ours.epoch, ours.numbers.next_epoch, len(ours.numbers)) == (0, 0, FRAMES)


@pytest.mark.slow
def test_ultralytics_may_begin_an_epoch_anew_to_end_mosaics(linked: Path) -> None:
    """Workers are an epoch ahead by then; what they have made is made again, of the same epoch."""
    made = loader(linked, 2, 2)
    epoch_of(made, 0)
    made.go_to(1)
    next(iter(made))
    made.reset()
    files = [batch["im_file"] for batch in made]
    made.close()
    assert files == [batch[0] for batch in epoch_of(loader(linked, 0, 2), 1)]


def test_workers_begin_anew_only_where_the_next_epoch_is_not_the_one_that_is_due(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loader(linked, 0, 1)
    anew: list[int] = []
    monkeypatch.setattr(made, "reset", lambda: anew.append(made.epoch))
    for epoch in (0, 1, 2, 2, 3, 5, 4):
        made.go_to(epoch)
    assert anew == [0, 2, 3, 5]  # for the first, the same again, one too far and one back
    assert made.epoch == 4


def test_a_picture_is_drawn_from_seed_epoch_and_picture_beside_what_ultralytics_has_in_memory(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.data.dataset import YOLODataset

    from train.detector.stream import drawn_from

    frames = loader(linked, 0, 2).dataset
    monkeypatch.setattr(
        YOLODataset, "__getitem__", lambda self, one: (one, self.buffer, random.random())
    )
    number = FRAMES + 17
    epoch, picture = frames.stream.place(number)
    with drawn_from(1, epoch, picture):
        drawn = random.random()
    for most, kept in ((8, 7), (2, 1), (1, 1)):
        frames.max_buffer_length = most
        recent = frames.stream.recent(number, kept)
        assert len(recent) == kept
        assert frames[number] == (picture, recent, drawn)


@pytest.mark.parametrize("cache", [None, "ram"])
def test_what_mosaics_are_drawn_from_is_not_what_is_kept_in_memory(
    linked: Path, monkeypatch: pytest.MonkeyPatch, cache: str | None
) -> None:
    """But where all is in memory, as several threads load it."""
    from ultralytics.data.dataset import YOLODataset

    frames = loader(linked, 0, 1).dataset
    given: list[Any] = []

    def load(self: Any, *words: Any, **keys: Any) -> str:
        given.append((words, keys))
        self.buffer.append(words[0])
        if words[0] == 3:
            raise FileNotFoundError("3.jpg")
        return "picture"

    monkeypatch.setattr(YOLODataset, "load_image", load)
    frames.cache, frames.buffer = cache, [1]
    assert frames.load_image(2, "rect", mode=False) == "picture"
    with pytest.raises(FileNotFoundError, match="3"):
        frames.load_image(3)
    assert given == [((2, "rect"), {"mode": False}), ((3,), {})]
    kept = {None: ([1], [2, 3]), "ram": ([1, 2, 3], [])}
    assert (frames.buffer, frames._in_memory) == kept[cache]


def test_no_more_pictures_are_kept_in_memory_than_ultralytics_keeps(linked: Path) -> None:
    made = loader(linked, 0, 1)
    for epoch in range(2):
        epoch_of(made, epoch)
        frames = made.dataset
        assert sum(image is not None for image in frames.ims) < frames.max_buffer_length == 8
