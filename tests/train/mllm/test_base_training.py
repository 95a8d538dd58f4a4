"""How the trainings of a base follow one another, with numbers in place of what they learn."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_json
from dat_runtime.stage import Stage
from train.mllm import base_training, tiny_model, tuning
from train.mllm.base_training import Steps
from train.mllm.model_card import base_card

CONFIG = {
    "finetuning_type": "full",
    "use_cpu": True,
    "image_max_pixels": 7056,
    "seed": 3,
    "max_steps": 9,
    "output_dir": "somewhere",
}
STEPS = Steps(tower=5, words=6, grounding=7)
SEEN = {"steps": 5, "held_out": 4, "frames": 0.5, "severity": 0.25, "iou": 0.75}
TEXTS = ["words", "grounding", "questions"]


def save(folder: Path, visual: float, language: float) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {"model.visual.a": torch.full((2, 3), visual), "model.b": torch.full((4,), language)}
    save_file(weights, folder / "model.safetensors")


def weights_of(folder: Path) -> tuple[float, float]:
    from safetensors.torch import load_file

    found = load_file(folder / "model.safetensors")
    return found["model.visual.a"][0, 0].item(), found["model.b"][0].item()


def write_primer(out: Path) -> Path:
    with Stage(out, kind="primer", inputs={}, config={"scenes": 24}) as folder:
        for name in TEXTS:
            turns = [{"content": f"{name} asked"}, {"content": f"{name} answered"}]
            sample = {"system": f"{name} system", "messages": turns}
            (folder / f"{name}_train.json").write_text(json.dumps([sample]))
    return out


class Trainings:
    """In place of what takes hours; each leaves a number of its own as all weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("torch")
        from train.mllm import seeing

        self.told: dict[str, Any] = {"runs": {}, "stops": {}}
        self.error: Exception | None = None
        monkeypatch.setattr(tiny_model, "build", self.build)
        monkeypatch.setattr(base_training, "_loaded", self.load)
        monkeypatch.setattr(seeing, "learn", self.learn)
        monkeypatch.setattr(tuning, "run", self.run)

    def build(self, folder, texts, vocabulary, pixels, seed, sizes) -> None:
        self.told["built"] = (list(texts), vocabulary, pixels, seed, sizes)
        save(folder, 0.0, 0.0)
        write_json(folder / "config.json", {"hidden_size": 8, "dtype": "float32"})
        (folder / "processor_config.json").write_text("{}")

    def load(self, folder: Path) -> Any:
        self.told["loaded"] = folder
        model = SimpleNamespace(
            to=lambda device: self.told.update(device=device),
            save_pretrained=lambda work: self.save(folder, work),
        )

        def save_processor(work: Path) -> None:
            (work / "processor_config.json").write_text("{}")

        return model, SimpleNamespace(save_pretrained=save_processor)

    def save(self, folder: Path, work: Path) -> None:
        save(work, 1.0, 50.0)
        if folder.name == "earlier":
            write_json(work / "config.json", {})

    def learn(self, model, processor, primer, work, steps, seed, name) -> dict[str, float]:
        self.told["seen"] = (primer, work, steps, seed, name)
        if self.error:
            raise self.error
        return dict(SEEN)

    def run(self, config, work, folder, name, stop=None) -> dict[str, Any]:
        part = work.name
        self.told["runs"][part] = (config, work, folder, name)
        self.told["stops"][part] = stop
        if self.error:
            assert stop.wait(20)
        self.told.setdefault("began with", {})[part] = weights_of(
            Path(config["model_name_or_path"])
        )
        at = float(2 + [*TEXTS].index(part))
        save(work, 100.0 if part == "words" else 1.0, at)
        return {"steps": config["max_steps"], "loss": at}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trainings:
    (tmp_path / "LICENSE").write_text("a licence")
    monkeypatch.setattr(base_training, "ROOT", tmp_path)
    return Trainings(monkeypatch)


def test_four_trainings_hand_their_weights_on(trainings, tmp_path, capsys) -> None:
    primer, folder = write_primer(tmp_path / "primer"), tmp_path / "base.partial"
    folder.mkdir()
    base_training.make_base(folder, primer, CONFIG, STEPS, "base")
    told = trainings.told
    texts = [f"{name} {part}" for name in TEXTS for part in ("system", "asked", "answered")]
    assert told["built"] == (texts, 640, 7056, 3, tiny_model.SMALL)
    assert told["loaded"] == folder / "first"
    assert told["device"] == "cpu"
    assert told["seen"] == (primer, folder / "work" / "seen", 5, 3, "base")
    work = folder / "work"
    differing = {
        "words": (folder / "first", "words_train", 6),
        "grounding": (work / "after-words", "grounding_train", 7),
        "questions": (work / "after-grounding", "grounding_train,questions_train,words_train", 9),
    }
    paths = {"dataset_dir": str(primer), "media_dir": str(primer)}
    for part, (model, dataset, steps) in differing.items():
        keys = {"model_name_or_path": str(model), "dataset": dataset, "max_steps": steps}
        assert told["runs"][part] == (
            {**CONFIG, **paths, **keys}, work / part, folder, f"base {part}",
        )  # fmt: skip
    assert isinstance(told["stops"]["words"], threading.Event)
    assert told["stops"]["grounding"] is told["stops"]["questions"] is None
    began = {"words": (0.0, 0.0), "grounding": (1.0, 2.0), "questions": (1.0, 3.0)}
    assert told["began with"] == began

    assert sorted(path.name for path in folder.iterdir()) == [
        "LICENSE", "README.md", "config.json", "config.yaml", "model.safetensors",
        "processor_config.json", "run.json", "train.log",
    ]  # fmt: skip
    assert weights_of(folder) == (1.0, 4.0)
    assert b'"BF16"' in (folder / "model.safetensors").read_bytes()
    assert read_json(folder / "config.json") == {"hidden_size": 8, "dtype": "bfloat16"}
    stated = {key: value for key, value in CONFIG.items() if key != "output_dir"}
    assert yaml.safe_load((folder / "config.yaml").read_text()) == stated
    reports = {
        "tower": SEEN,
        "words": {"steps": 6, "loss": 2.0},
        "grounding": {"steps": 7, "loss": 3.0},
        "questions": {"steps": 9, "loss": 4.0},
    }
    assert list(read_json(folder / "run.json").items()) == list(reports.items())
    assert (folder / "README.md").read_text() == base_card(10, 84, 24, reports)
    assert (folder / "LICENSE").read_text() == "a licence"
    assert capsys.readouterr().out.splitlines()[1:] == [
        "[base] tokenizer and untrained model",
        f"[base] tower: {SEEN}",
    ]


def test_a_base_that_goes_on_tells_what_the_earlier_one_learnt(trainings, tmp_path, capsys) -> None:
    primer, folder = write_primer(tmp_path / "primer"), tmp_path / "base.partial"
    folder.mkdir()
    earlier = tmp_path / "earlier"
    save(earlier, 7.0, 7.0)
    part = {"steps": 1, "loss": 0.5}
    had = {"tower": SEEN, "words": part, "grounding": part, "questions": part}
    write_json(earlier / "run.json", had)
    (folder / "first").mkdir()
    (folder / "first" / "half").touch()  # of a start that was cut off
    base_training.make_base(folder, primer, CONFIG, STEPS, "base", earlier)
    assert list(read_json(folder / "run.json")) == ["earlier", "tower", *TEXTS]
    assert read_json(folder / "run.json")["earlier"] == had
    assert f"[base] {earlier}" in capsys.readouterr().out.splitlines()
    assert not (folder / "half").exists()


def test_an_error_of_the_tower_stops_the_words(trainings, tmp_path) -> None:
    primer, folder = write_primer(tmp_path / "primer"), tmp_path / "base.partial"
    folder.mkdir()
    trainings.error = DataError("no views")
    with pytest.raises(DataError, match="no views"):
        base_training.make_base(folder, primer, CONFIG, STEPS, "base")
    assert trainings.told["stops"]["words"].is_set()


def test_what_an_earlier_start_finished_is_not_done_again(trainings, tmp_path) -> None:
    folder, work = tmp_path / "base.partial", tmp_path / "base.partial" / "work"
    for part, name in (("seen", "seen.json"), ("words", "done.json")):
        (work / part).mkdir(parents=True)
        write_json(work / part / name, {"steps": 1})
    first = folder / "first"
    first.mkdir()
    (first / "processor_config.json").touch()
    base_training._first(first, None, tmp_path, None, tmp_path / "log", "base")
    seen = base_training._see(first, tmp_path, work / "seen", tmp_path / "log", 0, 5, "cpu", "base")
    report = base_training._read(folder, work / "words", first, tmp_path, CONFIG, "base")
    assert (seen, report) == (work / "seen", {"steps": 1})
    assert trainings.told == {"runs": {}, "stops": {}}


def test_texts_that_are_no_samples_are_named(tmp_path) -> None:
    write_json(tmp_path / "words_train.json", [{"system": "s", "messages": [{"content": "c"}]}])
    write_json(tmp_path / "grounding_train.json", [{"system": "s"}])
    texts = base_training.primer_texts(tmp_path)
    assert [next(texts), next(texts), next(texts)] == ["s", "c", "s"]
    with pytest.raises(DataError) as refused:
        next(texts)
    assert str(refused.value) == (
        f"{tmp_path / 'grounding_train.json'}: does not hold ShareGPT samples "
        "(KeyError('messages'))"
    )
    write_json(tmp_path / "words_train.json", [1])
    with pytest.raises(DataError, match="does not hold ShareGPT samples"):
        list(base_training.primer_texts(tmp_path))
