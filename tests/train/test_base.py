import json
from collections import Counter
from pathlib import Path

import pytest

from dat_runtime import manifest, prompt
from dat_runtime.errors import DataError
from dat_runtime.stage import Stage
from dat_runtime.types import SEVERITIES
from data.prep import primer
from train import base
from train.mllm import base_training, tiny_model, tuning
from train.mllm.base_training import WEIGHTS, primer_texts
from train.mllm.model_card import base_card
from train.recipe.config_file import read_config


def test_the_base_has_the_classes_of_the_7b(tiny_base):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(tiny_base)
    processor = AutoProcessor.from_pretrained(tiny_base)

    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    assert type(processor.image_processor).__name__ == "Qwen2VLImageProcessor"
    assert type(processor.tokenizer).__name__ == "Qwen2Tokenizer"
    assert json.loads((tiny_base / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in model.generation_config.eos_token_id


@pytest.mark.parametrize("text", [prompt.SYSTEM, "Ünïcode ✓ [12, 345] {}", "a\n\n  b <|im_end|>"])
def test_the_tokenizer_gives_every_text_back(tiny_base, text):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_tokens_of_their_own_as_in_qwen(tiny_base):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tiny_base).tokenize("480") == ["4", "8", "0"]


def test_a_system_message_stands_before_the_image(tiny_base):
    from transformers import AutoProcessor

    content = [{"type": "image"}, {"type": "text", "text": "Q"}]
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": content}]
    text = AutoProcessor.from_pretrained(tiny_base).apply_chat_template(
        messages, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>Q<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_primer_without_samples_is_refused_by_name(tmp_path: Path):
    (tmp_path / "words_train.json").write_text('[{"messages": []}]')
    with pytest.raises(DataError, match=r"words_train\.json"):
        list(primer_texts(tmp_path))


def test_every_piece_of_the_papers_words_is_answered_by_the_primer():
    """A piece that no answer of the primer holds is never said, whatever a prompt asks for."""
    samples = list(primer.words(seed=0, count=2000, size=168))
    answers = [sample["messages"][1]["content"] for sample in samples]
    asked = [text for s in samples for text in (s["system"], s["messages"][0]["content"])]
    tokenizer = tiny_model.learnt_tokenizer([*asked, *answers], base_training.VOCABULARY)
    met = Counter(piece for answer in answers for piece in tokenizer(answer)["input_ids"])
    for word in SEVERITIES:
        pieces = tokenizer(f'"{word}"')["input_ids"][1:-1]
        assert {tokenizer.decode([piece]) for piece in pieces if met[piece] < 10} == set()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_base_is_made_in_four_trainings_and_small_enough_to_ship(tmp_path: Path, capsys):
    from safetensors.torch import load_file

    rendered = ["--scenes", "24", "--words", "20", "--size", "84", "--jobs", "1"]
    assert primer.main(["--out", str(tmp_path / "primer"), *rendered]) == 0
    given = ["--config", "configs/lora/base.yaml", "--primer", str(tmp_path / "primer")]
    short = [
        "--tower",
        "2",
        "--words",
        "1",
        "--grounding",
        "1",
        "max_steps=1",
        "image_max_pixels=7056",
    ]
    out = tmp_path / "base"
    assert base.main([*given, "--out", str(out), *short]) == 0
    assert manifest.verify(out, "base").config["tower"] == 2
    weights = load_file(out / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.bfloat16"}
    assert sum(path.stat().st_size for path in out.iterdir()) < 8_000_000
    report = json.loads((out / "run.json").read_text())
    assert list(report) == ["tower", "words", "grounding", "questions"]
    assert [part["steps"] for part in report.values()] == [2, 1, 1, 1]
    card = (out / "README.md").read_text()
    assert "on 24 rendered scenes" in card
    assert "84 x 84 pixels" in card
    assert not (out / "work").exists()
    assert base.main([*given, "--out", str(out), *short]) == 0
    assert "up to date" in capsys.readouterr().out


def test_a_base_that_goes_on_begins_with_the_earlier_ones_weights_and_words(tmp_path: Path):
    from safetensors.torch import load_file

    earlier, settings = Path("train/shipped_base"), None
    first = tmp_path / "first"
    base_training._first(first, earlier, tmp_path, settings, tmp_path / "log", "base")
    began, had = (load_file(folder / "model.safetensors") for folder in (first, earlier))
    assert began.keys() == had.keys()
    assert all(bool((began[name] == had[name].float()).all()) for name in had)
    texts = [(folder / "tokenizer.json").read_text() for folder in (first, earlier)]
    assert json.loads(texts[0])["model"] == json.loads(texts[1])["model"]


def test_the_card_names_what_earlier_copies_had_learnt_by():
    part = {"steps": 2, "loss": 0.5}
    seen = {"steps": 9, "held_out": 4, "frames": 0.5, "severity": 0.5, "iou": 0.5}
    reports = {"tower": seen, "words": part, "grounding": part, "questions": part}
    told = base_card(10, 168, 24, {**reports, "earlier": reports})
    assert "Steps of its trainings: tower 9, words 2, grounding 2, questions 2." in told
    assert "earlier copy" not in base_card(10, 168, 24, reports)


def test_tower_and_words_are_joined_from_two_trainings(tiny_base: Path, tmp_path: Path):
    import torch
    from safetensors.torch import load_file, save_file

    had = load_file(tiny_base / "model.safetensors")
    for part, value in (("seen", 1.0), ("words", 2.0)):
        (tmp_path / part).mkdir()
        filled = {name: torch.full_like(tensor, value) for name, tensor in had.items()}
        save_file(filled, tmp_path / part / "model.safetensors")
    seen, words = tmp_path / "seen", tmp_path / "words"
    joined = base_training._joined(tiny_base, seen, words, tmp_path / "joined")
    values = {name: set(w.flatten().tolist()) for name, w in load_file(joined / WEIGHTS).items()}
    assert {name for name, of in values.items() if of == {1.0}} == {n for n in had if "visual" in n}
    assert all(len(of) == 1 for of in values.values())


def test_an_error_of_the_tower_ends_the_words_training(tmp_path: Path, capsys):
    """Else it would be shown when the words are learnt, an hour later."""
    rendered = ["--scenes", "24", "--words", "20", "--size", "84", "--jobs", "1"]
    assert primer.main(["--out", str(tmp_path / "primer"), *rendered]) == 0
    (tmp_path / "primer" / "units.json").write_text("{}")
    given = ["--config", "configs/lora/base.yaml", "--primer", str(tmp_path / "primer")]
    out = ["--out", str(tmp_path / "base"), "--words", "100000", "image_max_pixels=7056"]
    assert base.main([*given, *out]) == 1
    assert "units.json" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--tower", "--words", "--grounding"])
def test_a_training_of_no_steps_is_refused(tmp_path: Path, capsys, option: str):
    given = ["--config", "configs/lora/base.yaml", "--primer", str(tmp_path)]
    assert base.main([*given, "--out", str(tmp_path / "base"), option, "0"]) == 1
    assert "at least one step" in capsys.readouterr().err


def test_the_shipped_base_is_whole_and_small():
    shipped = Path("train/shipped_base")
    manifest.verify(shipped, "base")
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 8_000_000


def test_a_base_is_known_by_what_decides_it(tmp_path: Path, monkeypatch, capsys):
    made = []

    def make_base(folder, *given):
        made.append(given)
        (folder / "model").write_text("trained")

    monkeypatch.setattr(base, "make_base", make_base)
    with Stage(tmp_path / "primer", kind="primer", inputs={}, config={"scenes": 24}):
        pass
    out = tmp_path / "base"
    given = ["--config", "configs/lora/base.yaml", "--primer", str(tmp_path / "primer")]
    run = [*given, "--out", str(out), "max_steps=9"]
    assert base.main(run) == 0
    config = read_config(Path("configs/lora/base.yaml"), ["max_steps=9"])
    steps = base_training.Steps(15000, 4300, 1900)
    assert made == [(tmp_path / "primer", config, steps, "base", None)]
    stated = manifest.verify(out, "base")
    assert stated.inputs.keys() == {"primer"}
    trained = {"vocabulary": 640, "tower": 15000, "words": 4300, "grounding": 1900}
    assert stated.config == {**tuning.recipe(config, length={}), **trained}
    assert base.main(run) == 0
    assert "up to date" in capsys.readouterr().out
    short = ["--tower", "1", "--words", "2", "--grounding", "3"]
    assert base.main([*run, *short]) == 1
    assert "tower: 15000 → 1" in capsys.readouterr().err
    shipped = ["--earlier", "train/shipped_base"]
    assert base.main([*run, *short, *shipped, "--restart"]) == 0
    steps = base_training.Steps(1, 2, 3)
    assert made[1:] == [(tmp_path / "primer", config, steps, "base", Path("train/shipped_base"))]
    assert manifest.verify(out, "base").inputs.keys() == {"primer", "earlier"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["finetuning_type=lora"], "base.yaml: an untrained model needs finetuning_type: full"),
        (["--words", "0"], "at least one step, got --tower 15000, --words 0, --grounding 1900"),
        (["flash_attn=fa2"], "LLaMA-Factory#10610"),
        (["no_such_key=1"], "no_such_key"),
        ([], "primer"),
        (["--earlier", "configs"], "configs"),
    ],
)
def test_what_makes_no_base_is_refused_at_once(tmp_path: Path, monkeypatch, capsys, more, words):
    monkeypatch.setattr(base, "make_base", None)
    given = ["--config", "configs/lora/base.yaml", "--primer", str(tmp_path / "primer")]
    if more[:1] == ["--earlier"]:
        with Stage(tmp_path / "primer", kind="primer", inputs={}, config={}):
            pass
    assert base.main([*given, "--out", str(tmp_path / "base"), *more]) == 1
    assert words in capsys.readouterr().err
