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


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"max_steps": 1}, {"max_steps": 1}),
        ({"max_steps": 0}, {"num_train_epochs": 3.0}),
        ({"max_steps": 0, "num_train_epochs": 2}, {"num_train_epochs": 2}),
        ({"warmup_steps": 1}, {"max_steps": 200}),
        ({"warmup_ratio": 0, "warmup_steps": 0}, {"max_steps": 200}),
    ],
)
def test_a_length_is_that_of_steps_where_there_are_any(changes, length):
    assert same_run.length({**CONSTANT, **changes}) == length
    endless = {key: value for key, value in CONSTANT.items() if key != "max_steps"}
    assert same_run.length(endless) == {"num_train_epochs": 3.0}


def test_why_another_length_is_another_run_is_said_with_what_to_do():
    advice = (
        "to be able to prolong one, train with lr_scheduler_type=constant or constant_with_warmup, "
        "warmup_steps in whole steps, and checkpoints"
    )
    depends = (
        "the learning rate (cosine) runs to its end at the last step, so a longer run differs from "
        f"the first steps on: {advice}"
    )
    assert same_run.reasons(COSINE) == {
        "llamafactory.max_steps": depends,
        "llamafactory.num_train_epochs": depends,
    }
    none = f"of a run without checkpoints there is nothing to go on from: {advice}"
    assert set(same_run.reasons(CONSTANT).values()) == {none}


@pytest.mark.parametrize(
    ("state", "config", "done"),
    [
        ({"global_step": 200, "epoch": 0.1}, {"max_steps": 200}, True),
        ({"global_step": 199, "epoch": 9.0}, {"max_steps": 200}, False),
        ({"global_step": 1, "epoch": 0.1}, {"max_steps": 1}, True),
        ({"global_step": 0, "epoch": 3.0}, {"max_steps": 0}, True),
        ({"global_step": 9, "epoch": 2.9}, {}, False),
        ({"global_step": 9, "epoch": 3.0}, {}, True),
        ({"global_step": 9, "epoch": 2.0}, {"max_steps": -1, "num_train_epochs": 2}, True),
    ],
)
def test_a_checkpoint_is_done_when_no_step_is_left(state, config, done):
    assert same_run.is_done(state, config) is done


@pytest.mark.parametrize("key", ["load_best_model_at_end", "early_stopping_steps"])
def test_where_checkpoints_decide_what_is_kept_every_key_decides(key):
    assert same_run.deciding({"save_steps": 10, key: 0}) == {key: 0}
    assert same_run.deciding({"save_steps": 10, key: 5}) == {"save_steps": 10, key: 5}
