"""Questions about views: what their answers tell of a view that was made by hand."""

import json
import re

import numpy as np
import pytest

from dat_runtime.types import Box, Size
from data.prep.asking import questions
from data.prep.rendering.frames import Wreck
from data.prep.rendering.primer_scenes import Mark, View

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


def test_of_listed_boxes_those_that_show_a_vehicle_are_chosen_as_they_are_listed() -> None:
    cars = (Box(0, 0, 60, 40, FRAME), Box(100, 90, 168, 160, FRAME), Box(10, 100, 60, 150, FRAME))
    wreck = Wreck(Box(90, 10, 160, 70, FRAME), "severe", 2, False)
    view = View(np.zeros((168, 168, 3), np.uint8), (wreck,), cars, ())
    rng = np.random.default_rng(0)
    lengths = []
    for _ in range(300):
        question = questions._choose(rng, view)
        assert question.image
        listed = [json.loads(box) for box in re.findall(r"\[[^]]+\]", question.prompt)]
        assert listed == sorted(listed, key=lambda box: box[:2])
        boxes = [Box(*box, FRAME) for box in listed]
        right = [list(box.pixels()) for box in boxes if max(box.iou(car) for car in cars) > 0.5]
        assert all(box.iou(wreck.box) < 0.15 for box in boxes if list(box.pixels()) not in right)
        answer = json.loads(question.answer)
        for value in answer.values():
            if isinstance(value, list):
                assert [next(iter(item.values())) for item in value] == right
            elif isinstance(value, int):
                assert value == len(right)
        lengths.append((len(right), len(listed) - len(right)))
    rights, wrongs = zip(*lengths, strict=True)
    assert {*rights} == {0, 1, 2, 3}
    assert np.mean([n > 0 for n in wrongs]) == pytest.approx(0.5, abs=0.15)


def test_a_box_is_chosen_from_a_list_only_where_none_is_drawn() -> None:
    mark = Mark("red", Box(30, 30, 90, 90, FRAME))
    image, car = np.zeros((168, 168, 3), np.uint8), Box(100, 100, 150, 150, FRAME)
    rng = np.random.default_rng(0)
    for marks in ((), (mark,)):
        view = View(image, (), (car,), marks)
        asked = [questions.ask(rng, view) for _ in range(400)]
        chosen = np.mean(["listed vehicles" in each.system for each in asked])
        assert chosen == pytest.approx(0 if marks else 0.24, abs=0.06)


def test_a_list_beside_a_question_about_accidents_is_rare_and_not_theirs() -> None:
    wreck = Wreck(Box(20, 20, 80, 80, FRAME), "severe", 2, False)
    view = View(np.zeros((168, 168, 3), np.uint8), (wreck,), (), ())
    rng = np.random.default_rng(0)
    asked = [questions._see(rng, view) for _ in range(600)]
    beside = [each.prompt for each in asked if "of accidents" in each.system]
    idle = [prompt for prompt in beside if prompt != "Image 168 x 168."]
    assert len(idle) / len(beside) == pytest.approx(0.15, abs=0.06)
    assert not any("[20, 20, 80, 80]" in prompt for prompt in idle)
