import pytest
import yaml

from dat_runtime.adapter import Adapter
from dat_runtime.family import FAMILIES
from dat_runtime.manifest import VERSIONS
from train.mllm.model_card import base_card, lora_card
from train.mllm.run_settings import RunSettings

REPORT = {"steps": 2, "loss": 0.5, "tokens": {"bins": [1, 2], "longest": 300}}


@pytest.mark.parametrize(
    ("base", "licence"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "apache-2.0"),
        ("Qwen2.5-VL-7B-Instruct", "apache-2.0"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "other"),
        ("base", "other"),
    ],
)
def test_the_card_states_no_licence_that_the_base_may_not_have(base, licence):
    adapter = Adapter(
        base, "0" * 40, rank=2, scale=2.0, tensors=2, parameters=64, dtypes=("float32",)
    )
    card = lora_card(RunSettings(dataset="boxed_train"), adapter, REPORT)
    front = yaml.safe_load(card.split("---")[1])
    assert (front["base_model"], front["license"]) == (base, licence)
    assert "those of the data that it was tuned on" in card


def test_the_card_says_in_what_the_boxes_of_an_answer_are_counted():
    adapter = Adapter("base", "0" * 40, 2, 2.0, tensors=2, parameters=64, dtypes=("float32",))
    for family in FAMILIES.values():
        card = lora_card(RunSettings(template=family.template), adapter, REPORT)
        assert f"for {family.title};\nthe answer, its boxes {family.coordinates}, is read" in card


def test_the_card_of_an_adapter_states_its_training() -> None:
    adapter = Adapter("a/b/Qwen2.5-VL-7B-Instruct", "f" * 40, 8, 2.0, 56, 1_234_567, ("bfloat16",))
    settings = RunSettings(dataset="boxed_train", lora_rank=8, learning_rate=5e-5)
    card = lora_card(settings, adapter, REPORT)
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"
    assert "# DAT adapter, boxed_train\n" in card
    assert f"A LoRA adapter for `a/b/Qwen2.5-VL-7B-Instruct`, revision\n`{'f' * 40}`." in card
    assert (
        "LLaMA-Factory: rank 8, alpha 16, learning rate 5e-05,\n"
        "2 steps, 1,234,567 parameters in 56 tensors. Data set `boxed_train` of\n"
        "3 samples, none longer than 300 tokens. Last training loss 0.5.\n"
    ) in card
    versions = f"Prompt version {VERSIONS['prompt']},\nschema version {VERSIONS['schema']}, "
    assert versions + f"drawing version {VERSIONS['drawing']}: the adapter" in card
    unlogged = lora_card(settings, adapter, {"tokens": REPORT["tokens"]})
    assert "\nNone steps, 1,234,567 parameters" in unlogged
    assert "Last training loss not logged." in unlogged


TOWER = {"steps": 2000, "held_out": 400, "frames": 0.946, "severity": 0.874, "iou": 0.7351}
TRAININGS = {
    "tower": TOWER,
    "words": {"steps": 600, "loss": 0.075},
    "grounding": {"steps": 400},
    "questions": {"steps": 2200, "loss": 0.25},
}


def test_the_card_of_the_base_states_what_it_learnt_by() -> None:
    card = base_card(2_134_567, 224, 2500, TRAININGS)
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\n")
    assert "\n2,134,567 weights in bfloat16, trained from nothing. It stands in for " in card
    assert "On rendered road scenes of 224 x 224 pixels: list vehicles" in card
    assert "`make base`, on 2,500 rendered scenes (`data.prep.primer`), four trainings" in card
    told = card[card.index("1. The vision") : card.index("\n\nThe two severities")]
    assert told == (
        "1. The vision tower alone, 2000 steps. Of 400 views held out it then says of\n"
        "   95% rightly whether they show a collision; it names the severity of 87% of a\n"
        "   collision's units, and its box at a mean IoU of 0.74.\n"
        "2. The language model on words alone, 600 steps, to a loss of 0.075.\n"
        "3. Both together on the places of things in pictures, 400 steps, to a loss of\n"
        "   not logged.\n"
        "4. The same on places, all other questions about pictures and words, 2200 steps, to a\n"
        "   loss of 0.25."
    )
    assert "left to the tuning.\n\n## Limits\n" in card


def test_a_base_that_went_on_from_others_states_theirs_too() -> None:
    first = {"tower": {"steps": 100}, "words": {"steps": 50}}
    second = {"tower": {"steps": 200}, "questions": {"steps": 70}, "earlier": first}
    card = base_card(1, 224, 1, TRAININGS | {"earlier": second})
    assert (
        "left to the tuning.\n"
        "\nIt went on from an earlier copy. Steps of its trainings: tower 200, questions 70.\n"
        "\nIt went on from an earlier copy. Steps of its trainings: tower 100, words 50.\n"
        "\n## Limits\n"
    ) in card
