"""How much a question takes, reckoned by hand."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.types import Size
from eval.answers import sizes
from eval.answers.asks import Ask

GB = 10**9


def model(**changes: Any) -> Any:
    text = {
        "num_key_value_heads": 4,
        "head_dim": 128,
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
    }
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**text | changes))
    return SimpleNamespace(config=config, dtype=SimpleNamespace(itemsize=2))


def test_keys_and_values_of_a_token_are_57_kilobytes_of_the_papers_model() -> None:
    assert sizes.cache_bytes(model(), 1) == 2 * 28 * 4 * 128 * 2 == 57_344
    assert sizes.cache_bytes(model(), 10) == 573_440
    assert sizes.cache_bytes(model(head_dim=None), 1) == 57_344  # 3584 / 28 = 128
    assert sizes.cache_bytes(model(head_dim=64), 1) == 28_672
    assert sizes.cache_bytes(model(head_dim=None, hidden_size=3600), 1) == 57_344  # whole widths
    text = model().config.get_text_config()
    del text.head_dim
    bare = SimpleNamespace(
        config=SimpleNamespace(get_text_config=lambda: text), dtype=model().dtype
    )
    assert sizes.cache_bytes(bare, 1) == 57_344


def test_the_largest_batch_that_fits_is_named() -> None:
    row = 57_344 * 20_000  # 1.15 GB
    assert sizes.demand_cache(model(), 20_000, 8, 8 * row) == 8 * row
    assert sizes.demand_cache(model(), 20_000, 8, None) == 8 * row
    with pytest.raises(ConfigError) as refused:
        sizes.demand_cache(model(), 20_000, 8, 8 * row - 1)
    assert str(refused.value) == (
        "the keys and values of 8 x 20000 tokens take 9.2 GB, and 9.2 GB are free on the card: "
        "--batch-size 7"
    )
    with pytest.raises(ConfigError, match=r"--batch-size 1$"):
        sizes.demand_cache(model(), 20_000, 8, row - 1)


class Processor:
    """Counts a token a word; a picture is one placeholder."""

    image_processor = SimpleNamespace(patch_size=14, merge_size=2)

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        assert options == {"tokenize": False, "add_generation_prompt": True}
        (turn,) = [m for m in messages if m["role"] == "user"]
        return "<picture> " + next(part["text"] for part in turn["content"] if "text" in part)

    def tokenizer(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [0] * len(text.split())}


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    cv2.imwrite(str(tmp_path / "f0.png"), np.zeros((84, 56, 3), np.uint8))
    frame = Size(560, 840)
    return Ask("f0", tmp_path / "f0.png", "", "what is there", frame, frame)


def test_a_picture_takes_a_token_for_each_square_of_28_pixels(ask: Ask) -> None:
    assert sizes.prompt_tokens(Processor(), ask) == 3 + 2 * 3


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (
            None,
            "states no prompt tokens, so they cannot be compared with those of base: leave "
            "--base out",
        ),
        (
            8,
            "took f0 in 8 prompt tokens, base makes 9 of it: it resizes pictures (this one has "
            "56 x 84 pixels; raise image_max_pixels of LLaMA-Factory, max_pixels of vLLM's "
            "--mm-processor-kwargs), has another chat template, or serves another base",
        ),
        (10, "took f0 in 10 prompt tokens, base makes 9 of it: it resizes pictures (this one"),
    ],
)
def test_a_server_with_other_prompts_than_its_base_is_refused(
    ask: Ask, stated: int | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processors = {("base", "main"): Processor()}
    monkeypatch.setattr(sizes, "load_processor", lambda *named: processors[named])
    demand_same = sizes.comparison("base", "main")
    demand_same(ask, 9, "http://a")
    with pytest.raises(ModelError) as refused:
        demand_same(ask, stated, "http://a")
    assert str(refused.value).startswith(f"http://a {told}")


def test_a_processor_is_loaded_at_its_revision_and_named_where_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In place of Transformers, which takes seconds to import."""

    def load(*given: Any, **keys: Any) -> Any:
        if given == ("gone",):
            raise OSError("no such folder")
        return given, keys

    loaders = SimpleNamespace(AutoProcessor=SimpleNamespace(from_pretrained=load))
    monkeypatch.setitem(sys.modules, "transformers", loaders)
    assert sizes.load_processor("base", "main") == (("base",), {"revision": "main"})
    with pytest.raises(ConfigError, match=r"^cannot load the processor of gone: no such folder$"):
        sizes.load_processor("gone", None)


def test_what_is_free_is_asked_of_the_card_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, free in ((True, 5 * GB), (False, None)):
        cuda = {
            "is_available": lambda there=there: there,
            "mem_get_info": lambda: (5 * GB, 80 * GB),
        }
        torch = SimpleNamespace(cuda=SimpleNamespace(**cuda))
        monkeypatch.setitem(sys.modules, "torch", torch)
        assert sizes.free_memory() == free
