"""What speaks against a version at work, and on canary frames."""

import pytest

from dat_runtime.edge.updates.probation import Measured, Tally, complaint, is_compliant
from dat_runtime.edge.updates.trial import Tried, refusal
from dat_runtime.types import Size

BEFORE = Measured(1000, 2, 0.010, 100, 90, 88, 0.5)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Measured(49, 49), None),
        (Measured(100, 5), None),
        (Measured(100, 6), "the gate failed on 6 of 100 frames"),
        (Measured(100, 0, 0.069), None),
        (Measured(100, 0, 0.071), "a look of the gate takes 71 ms, 10 ms before"),
        (Measured(49, 0, 9.0), None),
        (Measured(questions=9, answers=9, compliant=0), None),
        (Measured(questions=10, answers=10, compliant=8, answer_s=0.5), None),
        (Measured(questions=10, answers=10, compliant=7), "70% of 10 answers were compliant"),
        (Measured(questions=100, answers=41, compliant=41), None),
        (Measured(questions=100, answers=39, compliant=39), "39% of 100 questions were answered"),
        (Measured(questions=10, answers=10, compliant=10, answer_s=1.04), None),
        (Measured(questions=10, answers=10, compliant=10, answer_s=1.06), "takes 1060 ms"),
    ],
)
def test_a_version_is_held_to_the_one_before(now: Measured, words: str | None) -> None:
    said = complaint(now, BEFORE)
    assert said is None if words is None else words in str(said)


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
        (tried(failures=1), "failed on 1 of 4 canary frames"),
        (tried(seen=2), None),
        (tried(seen=1), "sees something on 1 canary frames, 4 before"),
        (tried(look_s=0.08), "a look of the gate takes 80 ms"),
        (tried(compliant=3), "3 of 4 canary answers were compliant, 4 of 4 before"),
        (tried(answers=0, compliant=0, answer_s=None), "answered none of 4 questions"),
        (tried(answer_s=1.2), "an answer of the MLLM takes 1200 ms"),
        (tried(questions=0, answers=0, compliant=0, answer_s=None), None),
    ],
)
def test_canary_frames_refuse_what_does_less_than_the_version_at_work(
    new: Tried, words: str | None
) -> None:
    said = refusal(new, tried())
    assert said is None if words is None else words in str(said)


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
