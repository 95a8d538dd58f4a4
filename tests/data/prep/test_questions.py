"""Questions about views: what their answers tell of a view that was made by hand."""

import json
import re

import numpy as np
import pytest

from dat_runtime.types import Box, Size
from data.prep.asking import questions
from data.prep.rendering.frames import Wreck
from data.prep.rendering.primer_scenes import View

FRAME = Size(168, 168)


def test_one_grade_in_ten_is_told_as_the_other_one_in_all_of_an_answer() -> None:
    wreck = Wreck(Box(20, 20, 80, 80, FRAME), "severe", 2, False)
    view = View(np.zeros((168, 168, 3), np.uint8), (wreck,), (), ())
    rng = np.random.default_rng(0)
    told = []
    for _ in range(3_000):
        asked = questions.ask(rng, view)
        level = re.search('"([a-z]+)": 1 if', asked.system)
        score = re.search('"([a-z]+)": [^"]*0[.]5', asked.system)
        if level is not None and asked.image and re.search("(of|all) accidents", asked.system):
            answer = json.loads(asked.answer)
            told.append(answer[level[1]])
            assert score is None or (answer[score[1]] >= 0.5) == told[-1]
    assert len(told) > 300
    assert np.mean(told) == pytest.approx(0.9, abs=0.04)


def test_how_large_vehicles_look_is_told_by_any_words_and_never_as_a_severity() -> None:
    large, small = Box(0, 0, 40, 40, FRAME), Box(60, 60, 80, 80, FRAME)  # 5.7 and 1.4 %
    view = View(np.zeros((168, 168, 3), np.uint8), (), (small, large), ())
    rng = np.random.default_rng(0)
    by_ours = []
    for _ in range(300):
        schema, items = questions._sized(rng, view)
        assert [(item.box, item.grade) for item in items] == [(large, 1), (small, 0)]
        assert {"count", "grade"} & {kind for kind, _ in schema.fields}
        assert not {"severity", "grade"} & {schema.label_key, *(key for _, key in schema.fields)}
        by_ours.append(set(schema.grades) == {"moderate", "severe"})
        assert by_ours[-1] or not {"moderate", "severe"} & {*schema.grades}
    assert np.mean(by_ours) == pytest.approx(0.4, abs=0.07)
