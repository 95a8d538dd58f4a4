import pytest
import yaml

from dat_runtime.adapter import Adapter
from dat_runtime.family import FAMILIES
from train.mllm.model_card import lora_card
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
