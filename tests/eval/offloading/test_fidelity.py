"""How far what is seen is from what should be, reckoned by hand on a tower that doubles."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eval.offloading import fidelity
from eval.offloading.fidelity import merger_error

pytestmark = pytest.mark.slow  # torch takes seconds to import


class Tower:
    """Twice the pixels, plus what a cut adds; says what it was given."""

    dtype = torch.float32

    def __init__(self) -> None:
        self.added = 0.0
        self.grids: list[int] = []

    def __call__(self, pixels: Any, grid_thw: int) -> Any:
        self.grids.append(grid_thw)
        return SimpleNamespace(pooler_output=(2 * pixels + self.added).to(torch.bfloat16))


class Encoded(dict[str, Any]):
    def to(self, device: str) -> "Encoded":
        assert device == "there"
        return self


class Way:
    """Pictures come with so much more on every pixel, in so many bytes each."""

    block = 3

    def __init__(self, more: float, change: float | None = None) -> None:
        self.more, self.change = more, change
        self.sizes: list[int] = []

    def asks(self, batch: Sequence[list[float]], folder: Path) -> list[list[float]]:
        assert folder.is_dir()
        self.sizes += [100 * len(self.sizes) + 50] * 1 + [250] * (len(batch) - 1)
        return [[value + self.more for value in ask] for ask in batch]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Any:
    tower = Tower()

    def encode(processor: str, batch: Sequence[list[float]]) -> Encoded:
        assert processor == "processor"
        pixels = torch.tensor(batch, dtype=torch.float64)
        return Encoded(pixel_values=pixels, image_grid_thw=len(batch))

    @contextmanager
    def cut(given: Tower, block: int, change: float) -> Iterator[None]:
        assert (given, block) == (tower, 3)
        tower.added = change
        yield
        tower.added = 0.0

    monkeypatch.setattr(fidelity, "encode", encode)
    # In place of the real one, which takes seconds to import.
    towers = SimpleNamespace(cut=cut, tower_of=lambda model: model.tower)
    monkeypatch.setitem(sys.modules, "train.offloading.tower", towers)
    model = SimpleNamespace(tower=tower, device="there")
    return SimpleNamespace(model=model, processor="processor")


ASKS: Any = [[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]]
"""Outputs of 2, 6, 10 and 0, 0, 12: about their means 32 and 96 of squares, 128 together."""


def test_the_same_pictures_have_no_error(loaded: Any) -> None:
    way: Any = Way(0.0)
    error, _ = merger_error(loaded, way, ASKS, 2)
    assert error == 0
    assert loaded.model.tower.grids == [2, 2, 1, 1]
    assert way.sizes == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 9])
def test_the_error_is_a_share_of_the_variance_whatever_the_batch(
    loaded: Any, batch_size: int
) -> None:
    way: Any = Way(2.0)  # 4 more on each of six outputs
    error, _ = merger_error(loaded, way, ASKS, batch_size)
    assert error == pytest.approx(6 * 16 / 128)


def test_a_code_is_cut_in_where_pictures_come_by_it_alone(loaded: Any) -> None:
    way: Any = Way(0.0, change=2.0)
    error, size = merger_error(loaded, way, ASKS, 2)
    assert error == pytest.approx(6 * 4 / 128)
    assert size == pytest.approx((50 + 250 + 250) / 3)
    assert way.sizes == []  # the answers count them again
