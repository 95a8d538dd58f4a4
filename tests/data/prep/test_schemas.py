"""Random schemas of the primer: worded as prompts are, answered as they say."""

import json
from collections import Counter

import numpy as np
import pytest

from dat_runtime.prompt import SYSTEM
from dat_runtime.types import Box, Size
from data.prep.asking import schemas
from data.prep.asking.schemas import Item, Schema

FRAME = Size(168, 168)
LARGE, SMALL = Box(0, 0, 84, 84, FRAME), Box(100, 20, 121, 41, FRAME)


def schema(*kinds: str, grades: tuple[str, str] = ("light", "heavy")) -> Schema:
    fields = tuple((kind, kind) for kind in kinds)
    return Schema("accidents", fields, "box", "type", grades, 90, "Role.", "Answer: {}")


def test_an_answer_follows_from_its_items() -> None:
    asked = schema(*schemas.KEYS)
    assert json.loads(asked.answer([Item(LARGE, 1), Item(SMALL, 0)])) == {
        "count": 2,
        "grade": "heavy",
        "level": 1,
        "score": 0.66,  # 0.55 for a heavy one, and 0.4 of the share that both boxes cover
        "items": [
            {"box": [0, 0, 84, 84], "type": "heavy"},
            {"box": [100, 20, 121, 41], "type": "light"},
        ],
        "summary": "Accidents: 1 heavy, 1 light.",
    }
    assert json.loads(asked.answer([])) == {
        "count": 0, "grade": "none", "level": 0, "score": 0.0, "items": [],
        "summary": "No accident.",
    }  # fmt: skip


def test_fields_come_in_the_order_of_the_schema_in_both() -> None:
    asked = schema("summary", "count")
    assert asked.system() == (
        'Role. Answer: {"summary": at most 90 characters, "count": number of accidents}'
    )
    assert list(json.loads(asked.answer([]))) == ["summary", "count"]


def test_items_without_labels_have_boxes_alone() -> None:
    asked = schema("items", grades=("", ""))
    assert asked.system(()).endswith(
        '{"items": [{"box": [x1, y1, x2, y2] in pixels of the image}]}'
    )
    assert json.loads(asked.answer([Item(LARGE, "")])) == {"items": [{"box": [0, 0, 84, 84]}]}


@pytest.mark.parametrize("graded", [True, False])
def test_drawn_schemas_differ_and_none_is_ours(graded: bool) -> None:
    rng = np.random.default_rng(0)
    drawn = [schemas.draw(rng, "accidents", graded) for _ in range(300)]
    texts = {one.system(None if graded else ()) for one in drawn}
    assert len(texts) > 250
    assert not any("moderate" in text or "severe" in text for text in texts)
    assert SYSTEM not in texts
    for one in drawn:
        keys = [key for _, key in one.fields]
        assert len(set(keys)) == len(keys)
        kinds = {kind for kind, _ in one.fields}
        assert kinds & {"items", "count"}
        assert graded or not kinds & {"grade", "level", "score"}


def test_no_word_for_a_grade_means_it_and_few_come_twice() -> None:
    rng = np.random.default_rng(0)
    pairs = [schemas.grade_words(rng) for _ in range(2_000)]
    assert not any({"moderate", "severe", "none"} & {*pair} for pair in pairs)
    assert all(low != high for low, high in pairs)
    known = [pair for pair in pairs if pair[0] in schemas.WORDS and pair[1] in schemas.WORDS]
    assert len(known) == pytest.approx(800, abs=60)
    assert sum(pair in schemas.GRADES for pair in pairs) < 4
    times = Counter(word for pair in pairs for word in pair)
    assert max(times.values()) < 45  # of 4,000: no word is worth knowing by heart
    lows = Counter(low for low, _ in known)
    assert max(lows[word] / times[word] for word, count in times.items() if count > 15) < 0.85
