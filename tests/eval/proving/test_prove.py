"""The proof point by point, with models that say what they are told to."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from dat_runtime.errors import ModelError
from eval.answers.likelihood import Likelihood
from eval.proving import forms, prove
from tests.eval.proving.test_demands import ADAPTER, FAILED, QUIET, RIGHT, performs, questions


class Loaded(NamedTuple):
    model: Any
    processor: Any = None


class Model:
    """A base; with an adapter it is another one, from which the bare base can be taken again."""

    dtype = "torch.float32"

    def __init__(self, name: str) -> None:
        self.name = name

    def unload(self) -> "Model":
        return Model(f"bare {self.name}")


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each model does, by its name."""
    does: dict[str, Any] = {
        "base": performs(1.5, *[FAILED] * 7, RIGHT),
        "tuned": performs(1.0, *[RIGHT] * 8),
    }
    does["merged"] = does["tuned"].likelihood

    def with_adapter(model: Model, adapter: Path) -> Model:
        assert (model.name, adapter) == ("base", ADAPTER)
        return Model("tuned")

    def likelihood(loaded: Loaded, given: Any, batch: int) -> Likelihood:
        assert (len(given), batch) == (8, 8)
        found: Likelihood = does[loaded.model.name]
        return found

    def performance(loaded: Loaded, given: Any) -> Any:
        return does[loaded.model.name]

    def load(name: str, revision: str | None, adapter: None) -> Loaded:
        does["loaded"] = [*does.get("loaded", []), (name, revision)]
        return Loaded(Model(name))

    for module in (prove, forms):
        monkeypatch.setattr(module, "with_adapter", with_adapter)
        monkeypatch.setattr(module, "performance", performance)
    monkeypatch.setattr(prove, "likelihood", likelihood)
    monkeypatch.setattr(forms, "load", load)
    return does


def merge(bare: Model, adapter: Path) -> Model:
    assert (bare.name, adapter) == ("bare tuned", ADAPTER)
    return Model("merged")


def proved(rehearsal: bool = False) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    loaded: Any = Loaded(Model("base"))
    found = prove.prove(loaded, ADAPTER, questions(), told.append, merge, rehearsal)
    return found, told


def test_a_proof_states_each_point(models: dict[str, Any]) -> None:
    found, told = proved()
    assert told == [
        "8 held-out samples: the base model answers",
        "the same with the adapter",
        "the same with the weights merged from the adapter's file",
    ]
    assert found["samples"] == [f"f{i}" for i in range(8)]
    assert (found["dtype"], found["answers_changed"], found["misfit"]) == ("torch.float32", 7, None)
    assert found["loss"]["difference"]["value"] == pytest.approx(-0.5)
    assert found["answers"]["schema"]["adapted"] == 1
    assert (found["merged"]["tokens"], found["merged"]["largest"]) == (16, 0)
    assert found["merged"]["tolerance"]["largest"] == 1e-3
    assert found["example"] == {"sample": "f0", "true": RIGHT, "base": FAILED, "adapted": RIGHT}


def test_an_example_is_the_first_answer_that_changed(models: dict[str, Any]) -> None:
    models["base"] = performs(1.5, RIGHT, RIGHT, QUIET, *[RIGHT] * 5)
    found, _ = proved()
    assert (found["answers_changed"], found["example"]["sample"]) == (1, "f2")
    assert found["example"]["base"] == QUIET


def test_useless_answers_are_an_error_and_of_a_rehearsal_a_word(models: dict[str, Any]) -> None:
    models["base"] = performs(1.5, *[RIGHT] * 8)
    models["tuned"] = performs(1.0, *[FAILED] * 8)
    words = (
        "gives worse answers than its base: schema changes by -1.000, 95 % interval -1.000 to "
        "-1.000; 0 of 8 answers fit the schema, expected at least 50%; one of the others is "
        "'no JSON'"
    )
    with pytest.raises(ModelError) as refused:
        proved()
    assert str(refused.value).startswith(f"lora: {words}: train longer")
    found, _ = proved(rehearsal=True)
    assert found["misfit"] == words


def test_merged_weights_that_differ_are_refused(models: dict[str, Any]) -> None:
    logs = [values + 0.01 for values in models["merged"].log_probs]
    models["merged"] = Likelihood(logs, models["merged"].choices)
    with pytest.raises(ModelError, match="merged weights differ"):
        proved()


def held(form: Path) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    return forms.hold("base", "r1", ADAPTER, form, questions(), told.append), told


def test_a_form_is_held_to_the_adapter_on_its_base(
    models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = tmp_path / "fp8"
    form.mkdir()
    apart = [values + np.array([1.5, 0.0]) / 10 for values in models["tuned"].likelihood.log_probs]
    texts = [*[RIGHT] * 7, QUIET]
    formed = SimpleNamespace(
        likelihood=Likelihood(apart, models["tuned"].likelihood.choices), texts=texts
    )
    models[str(form)] = models["quantised"] = formed
    monkeypatch.setattr(forms, "is_quantised", lambda folder: True)
    monkeypatch.setattr(
        forms,
        "load_quantised",
        lambda *given: Loaded(Model("quantised" * (given == (form, "base", "r1")))),
    )
    found, told = held(form)
    assert told == [
        "8 held-out samples: the base with the adapter beside it answers",
        "fp8 answers",
    ]
    assert models["loaded"] == [("base", "r1")]
    assert found["samples"] == [f"f{i}" for i in range(8)]
    assert found["same_answers"] == 7
    assert found["agreement"]["tolerance"] == {"largest": 2.0, "mean": 0.1, "same_choice": 0.94}
    assert found["agreement"]["largest"] == pytest.approx(0.15)
    assert found["answers"]["count_em"]["form"] == pytest.approx(7 / 8)
    assert found["scores"]["count_em"]["value"] == pytest.approx(7 / 8)
    monkeypatch.setattr(forms, "is_quantised", lambda folder: False)
    with pytest.raises(ModelError, match="its weights differ from the adapter on its base"):
        held(form)  # whole weights have to be nearer: a mean of 0.05 at most
    assert models["loaded"][-1] == (str(form), None)


def test_a_served_form_is_held_by_its_answers(models: dict[str, Any], tmp_path: Path) -> None:
    lines = "".join(f'{{"image_id": "f{i}", "text": "no JSON"}}\n' for i in range(8))
    (tmp_path / "predictions.jsonl").write_text(lines)
    with pytest.raises(ModelError) as refused:
        held(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} gives worse answers than its adapter: schema changes by -1.000, 95 % interval "
        "-1.000 to -1.000: serve the adapter on its base, or a form with more bits"
    )
