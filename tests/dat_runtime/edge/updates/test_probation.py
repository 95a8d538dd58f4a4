"""What speaks against a version at work, and on canary frames."""

import pytest

from dat_runtime.edge.updates.probation import Measured, Tally, complaint, is_compliant, slower
from dat_runtime.edge.updates.trial import Tried, refusal
from dat_runtime.types import Size

BEFORE = Measured(1000, 2, 0.010, 100, 90, 88, 0.5)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Measured(49, 49), None),
        (Measured(50, 3), "the gate failed on 3 of 50 frames"),
        (Measured(100, 5), None),
        (Measured(100, 6), "the gate failed on 6 of 100 frames"),
        (Measured(100, 0, 0.069), None),
        (Measured(100, 0, 0.071), "a look of the gate takes 71 ms, 10 ms before"),
        (Measured(50, 0, 0.071), "a look of the gate takes 71 ms, 10 ms before"),
        (Measured(49, 0, 9.0), None),
        (Measured(questions=9, answers=9, compliant=0), None),
        (Measured(questions=10, answers=10, compliant=8, answer_s=0.5), None),
        (
            Measured(questions=10, answers=10, compliant=7),
            "70% of 10 answers were compliant, 98% before",
        ),
        (Measured(questions=100, answers=40, compliant=40), None),
        (
            Measured(questions=100, answers=39, compliant=39),
            "39% of 100 questions were answered, 90% before",
        ),
        (Measured(questions=10, answers=10, compliant=10, answer_s=1.04), None),
        (
            Measured(questions=10, answers=10, compliant=10, answer_s=1.06),
            "an answer of the MLLM takes 1060 ms, 500 ms before",
        ),
        (Measured(questions=10, answers=9, compliant=9, answer_s=9.0), None),
    ],
)
def test_a_version_is_held_to_the_one_before(now: Measured, words: str | None) -> None:
    assert complaint(now, BEFORE) == words


def test_where_little_is_known_of_the_version_before_nothing_is_compared() -> None:
    slow = Measured(50, 0, 9.0, 10, 10, 10, 9.0)
    assert complaint(slow, Measured(49, 0, 0.01, 9, 9, 9, 0.01)) is None
    words = "a look of the gate takes 9000 ms, 10 ms before"
    assert complaint(slow, Measured(50, 0, 0.01, 9, 9, 9, 0.01)) == words
    words = "an answer of the MLLM takes 9000 ms, 10 ms before"
    assert complaint(slow, Measured(49, 0, 0.01, 10, 10, 10, 0.01)) == words
    few = Measured(questions=10, answers=0)
    assert complaint(few, Measured(questions=9, answers=9)) is None
    words = "0% of 10 questions were answered, 100% before"
    assert complaint(few, Measured(questions=10, answers=10, compliant=10)) == words


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (None, 1.0, None),
        (9.0, None, None),
        (2.05, 1.0, None),
        (2.051, 1.0, "it takes 2051 ms, 1000 ms before"),
        (1e6, 1e5, "it takes 1000000000 ms, 100000000 ms before"),
    ],
)
def test_slower_is_more_than_twice_and_a_twentieth_of_a_second(
    now: float | None, before: float | None, words: str | None
) -> None:
    assert slower("it", now, before) == words


def test_a_baseline_that_is_damaged_is_named() -> None:
    with pytest.raises(ValueError, match=r"^baseline: frames is -1, expected a whole number"):
        Measured.from_json(Measured().as_json() | {"frames": -1})


def test_a_tally_forgets_the_oldest_durations_and_no_count() -> None:
    tally = Tally()
    for seconds in [9.0] * 512 + [1.0] * 257:
        tally.looked(seconds)
        tally.answered(seconds, compliant=False)
    told = tally.measured()
    assert (told.frames, told.failures, told.answers, told.compliant) == (769, 0, 769, 0)
    assert (told.look_s, told.answer_s) == (1.0, 1.0)


def test_where_nothing_is_known_of_the_version_before_half_of_the_answers_must_be_compliant() -> (
    None
):
    assert complaint(Measured(questions=10, answers=10, compliant=5, answer_s=9.0), None) is None
    assert complaint(Measured(questions=10, answers=10, compliant=4), None) is not None
    assert complaint(Measured(1000, 0, 9.0), Measured()) is None


def test_a_tally_takes_medians_and_counts() -> None:
    tally = Tally()
    assert tally.measured() == Measured()
    for seconds in (1.0, 9.0, 2.0):
        tally.looked(seconds, failed=seconds == 9.0)
        tally.asked()
    tally.answered(0.5, compliant=True)
    assert tally.measured() == Measured(3, 1, 2.0, 3, 1, 1, 0.5)
    assert Measured.from_json(tally.measured().as_json()) == tally.measured()


def tried(seen: int = 4, **changes: object) -> Tried:
    told = {"frames": 4, "look_s": 0.01, "questions": 4, "answers": 4, "compliant": 4}
    return Tried(Measured(**(told | {"answer_s": 0.5} | changes)), seen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (tried(), None),
        (tried(failures=1), "the gate failed on 1 of 4 canary frames"),
        (tried(seen=2), None),
        (tried(seen=1), "the gate sees something on 1 canary frames, 4 before"),
        (tried(look_s=0.08), "a look of the gate takes 80 ms, 10 ms before"),
        (tried(compliant=3), "3 of 4 canary answers were compliant, 4 of 4 before"),
        (tried(answers=0, compliant=0, answer_s=None), "the MLLM answered none of 4 questions"),
        (tried(answer_s=1.2), "an answer of the MLLM takes 1200 ms, 500 ms before"),
        (tried(questions=0, answers=0, compliant=0, answer_s=None), None),
    ],
)
def test_canary_frames_refuse_what_does_less_than_the_version_at_work(
    new: Tried, words: str | None
) -> None:
    assert refusal(new, tried()) == words


def test_a_server_that_answers_neither_version_is_not_the_new_ones_fault() -> None:
    silent = tried(answers=0, compliant=0, answer_s=None)
    assert refusal(silent, silent) is None
    assert refusal(silent, None) is not None
    assert refusal(tried(compliant=2), None) is None
    assert refusal(tried(compliant=1), None) is not None


def test_compliance_is_schema_and_rule_without_a_violation() -> None:
    answer = (
        '{"count": 1, "severity": "severe", "level": 1, "score": 0.9, "summary": "", '
        '"accidents": [{"bbox": [0, 0, 9, 9], "severity": "severe"}]}'
    )
    assert is_compliant(answer, Size(10, 10))
    assert not is_compliant(answer, Size(8, 8))
    assert not is_compliant(answer.replace("0.9", "0.1"), Size(10, 10))
    assert not is_compliant("{", Size(10, 10))
