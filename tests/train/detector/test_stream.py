import random
from collections import defaultdict
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.detector.stream import Stream, drawn_from


@given(pictures=st.integers(1, 40), ranks=st.integers(1, 5), epoch=st.integers(0, 9))
def test_an_epoch_holds_every_picture_and_the_ranks_share_it(
    pictures: int, ranks: int, epoch: int
) -> None:
    shares = []
    for rank in range(ranks):
        stream = Stream(pictures, 4, seed=7, rank=rank, ranks=ranks)
        numbers = range(epoch * len(stream), (epoch + 1) * len(stream))
        assert {stream.place(number)[0] for number in numbers} == {epoch}
        shares.append([stream.place(number)[1] for number in numbers])
    assert len({len(share) for share in shares}) == 1
    shown = [picture for share in shares for picture in share]
    assert set(shown) == set(range(pictures))
    assert len(shown) - pictures < ranks


def test_epochs_and_seeds_have_other_orders() -> None:
    def order(seed: int, epoch: int, shuffled: bool = True) -> tuple[int, ...]:
        stream = Stream(30, 4, seed, shuffled=shuffled)
        return tuple(stream.place(epoch * 30 + place)[1] for place in range(30))

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert order(1, 2, shuffled=False) == tuple(range(30))


@given(
    pictures=st.integers(1, 20),
    batch=st.integers(1, 6),
    workers=st.integers(1, 4),
    most=st.integers(1, 30),
)
def test_recent_is_what_a_worker_that_began_with_the_training_had_last(
    pictures: int, batch: int, workers: int, most: int
) -> None:
    """The oracle: workers that take turns at the batches of all epochs and remember."""
    stream = Stream(pictures, batch, seed=3, workers=workers)
    had = defaultdict(list)
    turns = count()
    for epoch in range(4):
        places = range(pictures)
        for first in range(0, pictures, batch):
            worker = next(turns) % workers
            for place in islice(places, first, first + batch):
                number = epoch * pictures + place
                had[worker].append(stream.place(number)[1])
                assert stream.recent(number, most) == had[worker][-most:]


def draws(*numbers: int) -> tuple[float, float]:
    with drawn_from(*numbers):
        return random.random(), float(np.random.random())


def test_numbers_decide_what_is_drawn_and_the_process_goes_on_as_if_nothing_was() -> None:
    random.seed(5)
    undisturbed = [random.random(), random.random()]
    random.seed(5)
    first = random.random()
    with pytest.raises(KeyError), drawn_from(1, 2, 3):
        raise KeyError
    assert draws(0, 1, 2) == draws(0, 1, 2)
    drawn = {draws(*numbers) for numbers in np.ndindex(3, 3, 3)}
    assert len({python for python, _ in drawn}) == len({numpy for _, numpy in drawn}) == 27
    assert [first, random.random()] == undisturbed
