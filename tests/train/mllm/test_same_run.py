"""Which configurations are one run."""

import pytest

from train.mllm import same_run

COSINE = {"max_steps": 200, "lr_scheduler_type": "cosine", "learning_rate": 5e-5}
CONSTANT = {**COSINE, "lr_scheduler_type": "constant"}


def test_what_is_printed_kept_or_read_ahead_decides_nothing():
    idle = {"logging_steps": 1, "save_steps": 10, "report_to": "wandb", "dataloader_num_workers": 4}
    assert same_run.deciding({**COSINE, **idle}) == COSINE
    choosing = {**COSINE, **idle, "load_best_model_at_end": True}
    assert same_run.deciding(choosing) == choosing


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({}, {"max_steps": 200}),
        ({"max_steps": -1}, {"num_train_epochs": 3.0}),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 20}, {"max_steps": 200}),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_ratio": 0.1}, {}),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.1}, {}),
        ({"lr_scheduler_type": "cosine"}, {}),
        ({"save_strategy": "no"}, {}),
        ({"save_only_model": True}, {}),
    ],
)
def test_a_run_can_be_prolonged_where_its_steps_do_not_depend_on_the_last(changes, length):
    assert same_run.length({**CONSTANT, **changes}) == length


def test_upstreams_schedule_where_none_is_stated_depends_on_the_end():
    assert same_run.length({"max_steps": 200}) == {}
    assert "(linear) runs to its end" in same_run.reasons({})["llamafactory.max_steps"]


def test_a_constant_rate_is_not_blamed_where_checkpoints_are_missing():
    why = same_run.reasons({**CONSTANT, "save_strategy": "no"})["llamafactory.max_steps"]
    assert why.startswith("of a run without checkpoints there is nothing to go on from: ")
