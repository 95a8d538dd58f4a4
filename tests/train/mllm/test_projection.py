"""What is told of a whole run, to the letter, and the memory that it is told of."""

from dataclasses import replace
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


def needed(size: int) -> float:
    """Bytes of a card for a batch of this size, with the margin, by the estimate."""
    settings = replace(SETTINGS, per_device_train_batch_size=size)
    found = resources.estimated(settings, read_model(SEVEN_B), SAMPLES, CARD)
    return found.peak * resources.MARGIN


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
    assert needed(large) <= 80 * 10**9 < needed(large + 1)


def test_a_run_of_whole_epochs_is_projected_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resources, "find_card", lambda settings: asked.append(settings))
    epochs = replace(SETTINGS, max_steps=-1, num_train_epochs=5, save_strategy="epoch")
    settings = replace(epochs, gradient_accumulation_steps=2, bf16=False)
    sizes = read_model(SEVEN_B)
    rehearsed = Rehearsed(
        SAMPLES, (400, 400, 200, 200, 200), MEASURED, {"memory": {"peak": 20 * 10**9}}
    )
    found = projection.project(rehearsed, settings, sizes)
    assert asked == [settings]
    seconds = 40 * 8 * 1704 * 0.01
    bounds = [seconds * (1 + sign * 0.1242069) for sign in (0, -1, 1)]  # Student's t of 2: 4.3027
    assert found.as_json() == {
        "steps": 40,
        "seconds": pytest.approx([bound + 5 for bound in bounds], rel=1e-6),
        "tokens_a_second": pytest.approx(100),
        "start": 12.0,
        "checkpoint": 1.0,
        "checkpoints": 5,
        "peak": 1 << 30,
        "estimated_peak": 20 * 10**9,
        "card": None,
        "largest_batch": None,
        "disk": resources.disk_needed(settings, sizes, 64, 1),
    }


def test_what_was_measured_above_the_estimate_makes_batches_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def largest(measured: int) -> int:
        peak = measured - CUDA_CONTEXT
        return int(projected(monkeypatch, CARD, peak_card_bytes=peak).largest_batch or 0)

    by_estimate, above = largest(20 * 10**9), largest(24 * 10**9)
    assert largest(10 * 10**9) == by_estimate
    assert needed(by_estimate) <= CARD.memory < needed(by_estimate + 1)
    assert 1.2 * needed(above) <= CARD.memory < 1.2 * needed(above + 1)
