"""What an adapter must show, at the bounds of each demand, and the proof in words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.errors import DataError, ModelError
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from eval.answers.asks import Ask
from eval.answers.likelihood import Likelihood, Question
from eval.proving import forms, prove
from eval.proving.demands import (
    TOLERANCES,
    Performance,
    Tolerance,
    compare,
    demand_agreement,
    demand_better,
    demand_change,
)
from eval.understanding.requirements import Requirement, RequirementError

SIZE = Size(100, 80)
ADAPTER = Path("lora")
RIGHT = dump(target([Accident(Box(10, 10, 50, 40, SIZE), "severe")]))
QUIET = dump(target([]))
FAILED = "no JSON"


def questions(count: int = 8) -> list[Question]:
    accidents = (Accident(Box(10, 10, 50, 40, SIZE), "severe"),)
    return [
        Question(
            Ask(f"f{i}", Path("f.png"), "", "", SIZE, SIZE),
            RIGHT,
            Frame(f"f{i}", "", SIZE, accidents),
        )
        for i in range(count)
    ]


def likelihoods(*losses: float) -> Likelihood:
    """Of answers of two tokens each."""
    return Likelihood(
        [np.array([-loss, -loss]) for loss in losses], [np.array([1, 2])] * len(losses)
    )


def performs(loss: float, *texts: str) -> Performance:
    return Performance(likelihoods(*(loss + i / 100 for i in range(len(texts)))), list(texts))


def refusal(work: Any, *given: Any) -> str:
    with pytest.raises(ModelError) as refused:
        work(*given)
    return str(refused.value)


def test_an_adapter_that_answers_as_its_base_changes_nothing() -> None:
    demand_change(performs(1, RIGHT, QUIET), performs(1, RIGHT, RIGHT), ADAPTER)
    assert refusal(
        demand_change, performs(1, RIGHT, QUIET), performs(1.25, RIGHT, QUIET), ADAPTER
    ) == (
        "lora changes nothing: all 2 greedy answers are the base's own (likelihoods differ by at "
        "most 0.25 nats a token): train longer or with a higher learning rate, and check that the "
        "adapter's modules are those of this base"
    )


def test_true_answers_have_to_become_likelier_beyond_chance() -> None:
    base, better = performs(1.5, *[FAILED] * 8), performs(1.0, *[RIGHT] * 8)
    found = demand_better(base, better, questions(), ADAPTER)
    assert found["loss"] == {
        "base": pytest.approx(1.535),
        "adapted": pytest.approx(1.035),
        "difference": pytest.approx({"value": -0.5, "low": -0.5, "high": -0.5}),
    }
    assert found["worse"] is None
    assert list(found["answers"]) == ["parse", "schema", "count_em", "bbox_miou"]
    assert found["answers"]["count_em"] == {
        "base": 0,
        "adapted": 1,
        "difference": {"value": 1, "low": 1, "high": 1},
    }
    assert refusal(demand_better, base, base, questions(), ADAPTER) == (
        "lora scores no better than its base on 8 held-out samples: the negative log-likelihood of "
        "the true answers changes by +0.000 nats a token, 95 % interval +0.000 to +0.000, expected "
        "below 0: train longer, and check that it was trained on these instructions and this "
        "prompt version"
    )
    mixed = Performance(likelihoods(*[1.0, 2.5] * 4), better.texts)
    assert "changes by +0.215 nats a token, 95 % interval -0." in refusal(
        demand_better, base, mixed, questions(), ADAPTER
    )


def test_answers_that_are_worse_beyond_chance_are_told_by_the_first_metric() -> None:
    base, worse = performs(1.5, *[RIGHT] * 8), performs(1.0, *[FAILED] * 8)
    assert demand_better(base, worse, questions(), ADAPTER)["worse"] == (
        "gives worse answers than its base: schema changes by -1.000, 95 % interval -1.000 to "
        "-1.000"
    )
    _, told = compare({"before": [RIGHT] * 8, "after": [QUIET] * 8}, questions())
    assert told == "count_em changes by -1.000, 95 % interval -1.000 to -1.000"
    _, told = compare({"before": [RIGHT] * 8, "after": [*[RIGHT] * 7, QUIET]}, questions())
    assert told is None  # one of eight may be chance
    other = '{"a JSON": "of its own"}'
    answers, told = compare({"before": [other] * 8, "after": [FAILED] * 8}, questions())
    assert told is None  # it parses no more, and was useless before
    assert answers["parse"] == {
        "before": 1,
        "after": 0,
        "difference": {"value": -1, "low": -1, "high": -1},
    }


LOOSE = Tolerance(largest=0.5, mean=0.25, same_choice=0.75)


def agreement(*apart: float, other: int = 0, tolerance: Tolerance = LOOSE) -> dict[str, Any]:
    """Four tokens in two answers, so far apart; so many prefer another token."""
    logs, zeros = np.array(apart), np.zeros(4)
    choices = np.array([9] * other + [1] * (4 - other))
    given = Likelihood([logs[:1], logs[1:]], [choices[:1], choices[1:]])
    plain = Likelihood([zeros[:1], zeros[1:]], [np.ones(1, int), np.ones(3, int)])
    return demand_agreement(plain, given, tolerance, ADAPTER)


def test_weights_within_the_tolerance_agree() -> None:
    assert agreement(0.5, -0.5, 0, 0, other=1) == {
        "tokens": 4,
        "largest": 0.5,
        "mean": 0.25,
        "same_choice": 0.75,
        "tolerance": {"largest": 0.5, "mean": 0.25, "same_choice": 0.75},
    }


@pytest.mark.parametrize(
    ("apart", "other"),
    [((0.5001, 0, 0, 0), 0), ((0.4, 0.4, 0.21, 0), 0), ((0, 0, 0, 0), 2), ((-0.6, 0, 0, 0), 0)],
)
def test_weights_beyond_one_tolerance_are_another_model(
    apart: tuple[float, ...], other: int
) -> None:
    with pytest.raises(ModelError, match="merged weights differ from the adapter on its base"):
        agreement(*apart, other=other)


def test_how_far_weights_are_apart_is_told() -> None:
    with pytest.raises(ModelError) as refused:
        agreement(0.75, 0.25, 0, 0, other=3, tolerance=TOLERANCES["torch.float32"])
    assert str(refused.value) == (
        "lora: merged weights differ from the adapter on its base: the log-probabilities of 4 "
        "tokens by 0.25 on average and 0.75 at most, 25.00% prefer the same token; expected at "
        "most 0.0001 and 0.001, at least 99.9%: serve the adapter on its base, or make the form "
        "again from this very base"
    )


@pytest.mark.parametrize(("fitting", "passes"), [(4, True), (3, False), (0, False)])
def test_half_of_the_answers_have_to_fit_the_schema(fitting: int, passes: bool) -> None:
    texts = [FAILED] * (8 - fitting) + [RIGHT] * fitting
    words = prove.words_on_form(performs(1, *texts), questions())
    if passes:
        assert words is None
        prove.demand_form(words, ADAPTER)
    else:
        assert words == (
            f"{fitting} of 8 answers fit the schema, expected at least 50%; one of the others is "
            "'no JSON'"
        )
        assert refusal(prove.demand_form, words, ADAPTER) == (
            f"lora: {words}: train longer, or on more samples, and check that the template is that "
            "of the base"
        )


REPORT: dict[str, Any] = {
    "samples": ["f0", "f1", "f2"],
    "answers_changed": 2,
    "loss": {
        "base": 1.5,
        "adapted": 0.25,
        "difference": {"value": -1.25, "low": -1.5, "high": -1.0},
    },
    "answers": {
        "parse": {"base": 0.5, "adapted": 1.0},
        "bbox_miou": {"base": None, "adapted": None},
    },
    "merged": {"largest": 0.00123, "tokens": 40, "same_choice": 0.9876},
    "example": {"sample": "f1", "true": "T", "base": "B", "adapted": "A"},
}


def test_the_proof_of_an_adapter_is_told_in_a_few_lines() -> None:
    told = [
        "2 of 3 answers differ from the base's",
        "true answers: 1.500 -> 0.250 nats a token (-1.250, -1.500 to -1.000); "
        "parse 0.50 -> 1.00, bbox_miou - -> -",
        "merged weights agree: 1.2e-03 at most over 40 tokens, 98.8% the same choice",
        "f1 true    T",
        "f1 base    B",
        "f1 adapted A",
    ]
    assert prove.summary(REPORT) == told
    fit = {"reasons": [], "against": ["never", "gate"], "frames": 60}
    assert prove.summary(REPORT | {"fitness": fit}) == [
        *told,
        "better than never an alert, the gate alone on 60 validation frames",
    ]
    unfit = fit | {"reasons": ["one", "two"]}
    assert prove.fitness_lines(unfit) == ["NOT FIT FOR USE: one", "NOT FIT FOR USE: two"]


def test_the_proof_of_a_form_is_told_in_a_few_lines() -> None:
    answers = {"parse": {"adapter": 1.0, "form": 0.5}, "bbox_miou": {"adapter": None, "form": 0.25}}
    served = {"same_answers": 2, "samples": ["a", "b", "c"], "answers": answers}
    first, last = "2 of 3 answers are the adapter's own", "parse 1.00 -> 0.50, bbox_miou - -> 0.25"
    assert forms.summary(served) == [first, last]
    agreement = {"mean": 0.0123, "largest": 0.5, "tokens": 40, "same_choice": 0.9876}
    assert forms.summary(served | {"agreement": agreement}) == [
        first,
        "log-probabilities differ by 1.2e-02 on average, 5.0e-01 at most over 40 tokens; 98.8% the "
        "same choice",
        last,
    ]


def test_answers_of_a_served_form_are_those_in_the_models_pixels(tmp_path: Path) -> None:
    lines = [
        {"image_id": "f1", "text": "in the camera's", "model_text": "in the model's"},
        {"image_id": "f0", "text": "only one"},
        {"image_id": "other", "text": "not asked"},
    ]
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert forms.answers_in(tmp_path, questions(2)) == ["only one", "in the model's"]
    with pytest.raises(DataError) as refused:
        forms.answers_in(tmp_path, questions(5))
    assert str(refused.value) == (
        f"{file}: holds no answer for f2, 3 of 5 are missing: run eval.predict with --part val"
    )


def test_every_score_that_falls_short_is_named() -> None:
    scores = {"sev_f1": {"value": 0.5}, "count_em": {"value": 0.75}, "n": 9}
    report = {"scores": scores}
    forms.demand_scores(report, [Requirement("sev_f1", ">=", 0.5)])
    with pytest.raises(RequirementError) as refused:
        forms.demand_scores(
            report,
            [
                Requirement("sev_f1", ">=", 0.6),
                Requirement("n", ">=", 1),
                Requirement("count_em", ">=", 0.8),
            ],
        )
    assert str(refused.value) == (
        "required, but not met: sev_f1 is 0.5, not >= 0.6; count_em is 0.75, not >= 0.8"
    )
