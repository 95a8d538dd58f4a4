"""What is told of a whole run, to the letter, and the memory that it is told of."""

from typing import Any

import pytest

from train.mllm import projection, resources
from train.mllm.lengths import Lengths
from train.mllm.memory import CUDA_CONTEXT
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.projection import Projection
from train.mllm.rehearsal import Rehearsed
from train.mllm.resources import Card
from train.mllm.run_settings import RunSettings

CARD = Card("A100", 42_400_000_000, 1)
TOLD = Projection(
    steps=1200,
    seconds=(7200.0, 3600.0, 10_800.0),
    tokens_a_second=12_345.6,
    start=90.4,
    checkpoint=2.25,
    checkpoints=13,
    peak=31_456_000_000,
    estimated_peak=30_001_000_000,
    card=CARD,
    largest_batch=6,
    disk=1_234_000_000,
)


def test_the_page_tells_time_memory_and_disk() -> None:
    assert TOLD.rows() == [
        ("steps", "1200"),
        ("to the end", "2.00 hours, 95 % interval 1.00 to 3.00"),
        ("speed", "12,346 tokens/s"),
        ("peak memory, measured", "31.46 GB of 42.4 GB, A100"),
        ("peak memory, estimated", "30.00 GB"),
        ("largest batch that fits", "6"),
        ("a checkpoint", "2.2 s, 13 of them"),
        ("a start or a resume", "90 s, and the time to read the real weights"),
        ("disk", "1.23 GB"),
        ("path of the adapter", "it loads whole into a base of these sizes"),
    ]
    assert TOLD.as_json() == {**vars(TOLD), "card": "A100"}


def test_without_a_card_the_memory_is_that_of_the_process() -> None:
    told = Projection(**{**vars(TOLD), "card": None, "largest_batch": None})
    rows = dict(told.rows())
    assert rows["peak memory, measured"] == ("31.46 GB of the process, libraries with it: no card")
    assert rows["largest batch that fits"] == "no card"
    assert told.as_json()["card"] is None


MEASURED: dict[str, Any] = {
    "step_seconds": [30.0, 9.0, 1.9, 2.1, 2.0],
    "checkpoint_seconds": [0.5, 1.5],
    "start_seconds": 12.0,
    "peak_card_bytes": None,
    "peak_process_bytes": 1 << 30,
}
SAMPLES = Lengths((1704,) * 64, 4096, (1296,) * 64, (150,) * 64)
SETTINGS = RunSettings(
    bf16=True, lora_rank=16, per_device_train_batch_size=4, max_steps=9, save_steps=4
)


def projected(monkeypatch: pytest.MonkeyPatch, card: Card | None, **changes: Any) -> Projection:
    monkeypatch.setattr(resources, "find_card", lambda settings: card)
    rehearsed = Rehearsed(
        SAMPLES, (400, 400, 200, 200, 200), MEASURED | changes, {"memory": {"peak": 20 * 10**9}}
    )
    return projection.project(rehearsed, SETTINGS, read_model(SEVEN_B))


def test_cuda_itself_is_added_to_the_peak_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    several = Card("A100", 42_400_000_000, 8)
    found = projected(monkeypatch, several, peak_card_bytes=15 * 10**9)
    assert found.card == CARD  # the rehearsal uses one
    assert found.peak == 15 * 10**9 + CUDA_CONTEXT
    assert found.estimated_peak == 20 * 10**9
    # Steps of 4 samples of 1704 tokens at 0.01 s a token, and three checkpoints of a second.
    assert found.seconds[0] == pytest.approx(9 * 4 * 1704 * 0.01 + 3 * 1.0)
    assert (found.start, found.checkpoint, found.checkpoints) == (12.0, 1.0, 3)


def test_the_largest_batch_is_the_last_whose_estimate_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = projected(monkeypatch, Card("a", 26 * 10**9, 1), peak_card_bytes=10**9).largest_batch
    large = projected(monkeypatch, Card("a", 80 * 10**9, 1), peak_card_bytes=10**9).largest_batch
    huge = projected(monkeypatch, Card("a", 10**13, 1), peak_card_bytes=10**9).largest_batch
    none = projected(monkeypatch, Card("a", 10**9, 1), peak_card_bytes=10**9).largest_batch
    assert none == 0
    assert small is not None
    assert large is not None
    assert 0 < small < large < 64 == huge

    def needed(size: int) -> float:
        settings = RunSettings(**{**vars(SETTINGS), "per_device_train_batch_size": size})
        card = Card("a", 80 * 10**9, 1)
        sizes = read_model(SEVEN_B)
        return resources.estimated(settings, sizes, SAMPLES, card).peak * resources.MARGIN

    assert needed(large) <= 80 * 10**9 < needed(large + 1)
