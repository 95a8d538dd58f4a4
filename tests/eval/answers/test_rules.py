"""What the automaton lets through is compliant, and every true answer gets through."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.answer import dump, target
from dat_runtime.errors import ConfigError
from dat_runtime.schema import check
from dat_runtime.types import Accident, Assessment, Box, Severity, Size
from eval.answers.asks import Ask
from eval.answers.rules import END, Rules, State, most_accidents, room, room_for

CHARACTERS = tuple(map(chr, range(256)))
FRAME = Size(112, 84)


def followed(rules: Rules, text: str) -> State | None:
    state: State | None = State()
    for char in text:
        state = None if state is None else rules.step(state, char)
    return state


def written(rules: Rules, generator: random.Random) -> str:
    """An answer of which each character is drawn at random."""
    state, text = State(), ""
    while state != END:
        possible = [c for c in CHARACTERS if rules.step(state, c) is not None]
        in_summary = state.slot == "summary" and not state.text
        # The summary would nearly always be filled to its end.
        char = '"' if in_summary and generator.random() < 0.2 else generator.choice(possible)
        after = rules.step(state, char)
        assert after is not None
        if not in_summary:
            assert set(rules.candidates(state)) >= set(possible), state
        state, text = after, text + char
    return text


@pytest.mark.parametrize("frame", [FRAME, Size(1, 1), Size(9, 10), Size(1344, 1000)])
def test_any_choice_of_characters_is_a_compliant_answer(frame: Size) -> None:
    rules, generator = Rules(frame, 3), random.Random(0)
    counts = set()
    for _ in range(60):
        text = written(rules, generator)
        verdict = check(text, frame.width, frame.height)
        assert verdict.problems == (), text
        assert verdict.assessment is not None
        counts.add(verdict.assessment.count)
    assert counts == {0, 1, 2, 3}


@st.composite
def accidents(draw: st.DrawFn) -> list[Accident]:
    severities: list[Severity] = draw(st.lists(st.sampled_from(("moderate", "severe")), max_size=4))
    found = []
    for severity in severities:
        x1 = draw(st.integers(0, FRAME.width - 1))
        y1 = draw(st.integers(0, FRAME.height - 1))
        x2 = draw(st.integers(x1 + 1, FRAME.width))
        y2 = draw(st.integers(y1 + 1, FRAME.height))
        found.append(Accident(Box(x1, y1, x2, y2, FRAME), severity))
    return found


@given(accidents())
def test_every_training_target_gets_through(found: list[Accident]) -> None:
    assert followed(Rules(FRAME, 4), dump(target(found))) == END


@given(accidents(), st.data())
def test_a_changed_answer_gets_through_only_where_it_is_compliant(
    found: list[Accident], data: st.DataObject
) -> None:
    text = dump(target(found))
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from('0123456789",}]{[ .-aems'))
    changed = text[:at] + new + text[at + data.draw(st.integers(0, 1)) :]
    if followed(Rules(FRAME, 4), changed) == END:
        assert check(changed, FRAME.width, FRAME.height).problems == ()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"count": 2', '"count": 1'),
        ('"severity": "severe", "level"', '"severity": "moderate", "level"'),
        ('"level": 1', '"level": 0'),
        ('"score": 0.7', '"score": 0.4'),
        ("[10, 20, 60, 70]", "[60, 20, 60, 70]"),
        ("[10, 20, 60, 70]", "[10, 70, 60, 70]"),
        ("[10, 20, 60, 70]", "[10, 20, 113, 70]"),
        ("[10, 20, 60, 70]", "[10, 20, 60, 85]"),
        ("[10, 20, 60, 70]", "[010, 20, 60, 70]"),
        ('70], "severity": "severe"', '70], "severity": "moderate"'),
    ],
)
def test_each_rule_is_kept(right: str, wrong: str) -> None:
    boxes = Box(10, 20, 60, 70, FRAME), Box(0, 0, 112, 84, FRAME)
    text = dump(target([Accident(boxes[0], "severe"), Accident(boxes[1], "moderate")]))
    text = text.replace('"score": 1.0', '"score": 0.7').replace('"score": 0.95', '"score": 0.7')
    assert followed(Rules(FRAME, 2), text) == END
    assert right in text
    assert followed(Rules(FRAME, 2), text.replace(right, wrong, 1)) is None


def ask(accidents: int, frame: Size = FRAME) -> Ask:
    truth = dump(target([Accident(Box(0, 0, 9, 9, frame), "severe")] * accidents))
    return Ask("a", Path(), "", "", frame, frame, truth)


@pytest.mark.parametrize(("most", "spare"), [(9, 3), (12, 2)])
def test_the_longest_answer_fills_its_room(most: int, spare: int) -> None:
    """A byte a token and one to end; spare are a second digit of the count, and the last comma."""
    widest = Accident(Box(100, 10, 112, 84, FRAME), "moderate")
    told = Assessment(most, "moderate", 0, 0.49, (widest,) * most, "x" * 200)
    text = dump(told)
    assert followed(Rules(FRAME, most), text) == END
    assert len(text) + 1 == room(most, FRAME) - spare
    longer = dump(replace(told, summary="x" * 201))
    assert followed(Rules(FRAME, most), longer) is None


def test_as_many_accidents_as_fit_into_the_limit_may_be_told() -> None:
    assert most_accidents(ask(1), room(5, FRAME)) == 5
    assert most_accidents(ask(1), room(5, FRAME) - 1) == 4
    assert most_accidents(ask(0), 10**6) == 64
    assert room_for([ask(1), ask(9)]) == room(9, FRAME)
    assert room_for([ask(1)]) == room(8, FRAME)
    with pytest.raises(ConfigError, match=f"from --max-new-tokens {room(2, FRAME)} on, and it is"):
        most_accidents(ask(2), room(2, FRAME) - 1)
