"""Which checkpoint is kept, and when a training ends."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import answer
from dat_runtime.errors import DatError
from dat_runtime.types import Accident, Box, Size
from train.mllm import best
from train.mllm.run_settings import RunSettings


@pytest.mark.parametrize(
    ("history", "patience", "step", "ends"),
    [
        ({5: 0.2}, 1, 5, False),
        ({5: 0.2, 10: 0.5, 15: 0.5}, 1, 10, True),
        ({5: 0.2, 10: 0.5, 15: 0.4}, 2, 10, False),
        ({15: 0.4, 20: 0.1, 5: 0.2, 10: 0.5}, 2, 10, True),
        ({5: 0.2, 10: 0.1, 15: 0.1, 20: 0.1}, 0, 5, False),
    ],
)
def test_the_first_of_the_best_is_kept_until_patience_ends(history, patience, step, ends) -> None:
    assert best.choose(history, patience) == (step, ends)


def test_answers_are_scored_by_the_scorer_of_the_tables(tmp_path: Path) -> None:
    frame = Size(112, 112)
    boxes = [Accident(Box(8, 20, 60, 70, frame), name) for name in ("moderate", "severe")]
    true = [answer.dump(answer.target([box])) for box in boxes] + [answer.dump(answer.target([]))]
    samples = [
        {"image_id": f"v{i}", "frame": [112, 112], "messages": [{}, {"content": text}]}
        for i, text in enumerate(true)
    ]
    assert best.score(tmp_path, samples, true) == 1.0
    # Of three classes one is never found, and one answer of another is wrong: (1 + 2/3 + 0) / 3.
    found = best.score(tmp_path, samples, [true[1], true[1], true[2]])
    assert found == pytest.approx(5 / 9)


def test_samples_are_spread_over_the_validation_part_of_the_training_set(tmp_path: Path) -> None:
    (tmp_path / "raw_val.json").write_text(json.dumps(list(range(10))))
    assert best.validation_samples(tmp_path, "raw_train,boxed_train", 4) == [0, 2, 5, 7]
    assert best.validation_samples(tmp_path, "raw_train", 40) == list(range(10))


@pytest.mark.parametrize(
    ("history", "left"), [({5: 0.2, 10: 0.1}, [5]), ({5: 0.1, 10: 0.2}, [5, 10])]
)
def test_the_checkpoint_at_which_patience_ended_is_made_again(
    tmp_path: Path, history, left
) -> None:
    for step in history:
        (tmp_path / f"checkpoint-{step}").mkdir()
    best.write_history(tmp_path, history)
    best.forget_end(tmp_path, tmp_path, patience=1)
    kept = [step for step in history if (tmp_path / f"checkpoint-{step}").is_dir()]
    assert kept == left


def test_the_validation_part_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatError, match=r"boxed_val\.json.*data\.prep\.instruct makes it"):
        best.validation_samples(tmp_path, " boxed_train ", 4)
    (tmp_path / "boxed_val.json").write_text("[]")
    with pytest.raises(DatError, match=r"boxed_val\.json: holds no sample"):
        best.validation_samples(tmp_path, "boxed_train", 4)


def test_a_history_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert best.read_history(tmp_path) == {}
    best.write_history(tmp_path, {5: 0.25, 10: 0.5})
    assert json.loads((tmp_path / "validation.json").read_text()) == {"5": 0.25, "10": 0.5}
    assert best.read_history(tmp_path) == {5: 0.25, 10: 0.5}
    (tmp_path / "validation.json").write_text("{")
    assert best.read_history(tmp_path) == {}


def test_the_scorers_complaint_is_handed_on(tmp_path: Path) -> None:
    sample = {
        "image_id": "v",
        "frame": [0, 112],
        "messages": [{}, {"content": '{"accidents": []}'}],
    }
    with pytest.raises(DatError, match=r"^eval.score failed: error: .*truth.jsonl:1") as refused:
        best.score(tmp_path, [sample], ["x"])
    assert not str(refused.value).endswith("\n")
    written = json.loads((tmp_path / "truth.jsonl").read_text())
    assert written == {"image_id": "v", "image": "", "width": 0, "height": 112, "accidents": []}
    assert json.loads((tmp_path / "predictions.jsonl").read_text()) == {
        "image_id": "v",
        "text": "x",
    }


class Control:
    should_training_stop = False


class Asked:
    """The callback in a run whose checkpoints hold their step, with a score for each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]):
        self.folder, self.scores = folder / "best", scores
        self.folder.mkdir()
        self.work = folder / "work"
        (folder / "boxed_val.json").write_text(json.dumps(["a", "b", "c", "d"]))
        settings = RunSettings(
            model_name_or_path="base", dataset_dir=str(folder), dataset="boxed_train"
        )
        self.processor = SimpleNamespace(tokenizer=SimpleNamespace(padding_side="right"))
        # In place of Transformers, which takes seconds to import.
        monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(TrainerCallback=object))
        monkeypatch.setattr(best, "load_processor", self._load)
        monkeypatch.setattr(best, "answers", self._answers)
        monkeypatch.setattr(best, "score", self._score)
        self.callback = best.callback(self.folder, settings, 2, 2)
        assert self.processor.tokenizer.padding_side == "left"

    def _load(self, base: str, revision: str) -> Any:
        assert (base, revision) == ("base", "main")
        return self.processor

    def _answers(self, model: int, processor: Any, samples: Any, folder: Path, bf16: bool) -> Any:
        assert (processor, samples, bf16) == (self.processor, ["a", "c"], True)
        assert folder == self.folder.parent
        return model

    def _score(self, folder: Path, samples: Any, texts: int) -> float:
        assert (folder, samples) == (self.folder, ["a", "c"])
        return self.scores[texts]

    def tell(self, event: str, step: int) -> bool:
        """Whether the training is to end."""
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            path = self.work / f"checkpoint-{step}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of {step}")
        args = SimpleNamespace(output_dir=str(self.work), bf16=True)
        control = Control()
        state = SimpleNamespace(global_step=step)
        getattr(self.callback, event)(args, state, control, model=step)
        return control.should_training_stop

    @property
    def kept(self) -> str:
        return (self.folder / "adapter_model.safetensors").read_text().rpartition(" ")[2]


def test_every_checkpoint_is_asked_and_the_best_is_kept_until_patience_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Asked(tmp_path, monkeypatch, {5: 0.25, 10: 0.5, 15: 0.5, 20: 0.125})
    run.tell("on_train_begin", 0)
    assert best.read_history(run.folder) == {}
    assert [(run.tell("on_save", step), run.kept) for step in (5, 10, 15, 20)] == [
        (False, "5"),
        (False, "10"),
        (False, "10"),
        (True, "10"),
    ]
    assert best.read_history(run.folder) == run.scores
    assert (run.folder / "adapter_config.json").read_text() == "adapter_config.json of 10"
    assert not list(run.folder.glob("*.new"))
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith("[best] step 20: sev_f1 0.1250, best at 10, ")
    )


def test_a_run_that_goes_on_forgets_later_steps_and_asks_about_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Asked(tmp_path, monkeypatch, {10: 0.75})
    best.write_history(run.folder, {5: 0.25, 15: 0.9})
    run.tell("on_train_begin", 10)
    assert best.read_history(run.folder) == {5: 0.25, 10: 0.75}
    assert run.kept == "10"
    best.write_history(run.folder, {5: 0.25, 10: 0.5, 15: 0.9})
    run.tell("on_train_begin", 10)  # known: not asked again
    assert best.read_history(run.folder) == {5: 0.25, 10: 0.5}


def test_a_question_is_asked_as_in_training(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 3, 3), (10, 20, 30), np.uint8))
    chats = []

    class Processor:
        def apply_chat_template(self, chat: Any, **options: Any) -> str:
            assert options == {"tokenize": False, "add_generation_prompt": True}
            chats.append(chat)
            return f"text {len(chats)}"

        def __call__(self, images: Any, **given: Any) -> Any:
            return [(image.size, image.mode, image.getpixel((0, 0))) for image in images], given

    turns = [{"content": "<image>what is <image>"}]
    sample = {"system": "look well", "images": ["a.png"], "messages": turns}
    images, given = best.encode(Processor(), [sample, sample], tmp_path)
    assert images == [((3, 2), "RGB", (30, 20, 10))] * 2
    assert given == {"text": ["text 1", "text 2"], "padding": True, "return_tensors": "pt"}
    assert chats[0] == [
        {"role": "system", "content": [{"type": "text", "text": "look well"}]},
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": "what is <image>"}],
        },
    ]
