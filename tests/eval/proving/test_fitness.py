"""What is better than never, than a constant and than the gate is fit for use; nothing else is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.answer import dump, target
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.prompt import task_prompt
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Detection, Severity, Size
from eval.answers.likelihood import read_questions
from eval.proving.fitness import demand_answers_of, demand_fit, fitness
from eval.statistics.bootstrap import rate_interval

FRAME = Size(112, 112)
FRAMES = 60
BOX = Box(10, 10, 60, 60, FRAME)
KINDS: tuple[Severity | None, ...] = (None, "moderate", "severe")


def told(*severities: Severity | None) -> str:
    return dump(target([Accident(BOX, name) for name in severities if name is not None]))


def sample(i: int, kind: Severity | None, found: list[Detection]) -> dict[str, Any]:
    turns = [{"content": f"<image>{task_prompt(FRAME, found)}"}, {"content": told(kind)}]
    about = {"image_id": f"v{i}", "system": "", "messages": turns, "images": [f"v{i}.jpg"]}
    return about | {"frame": [112, 112], "original": [640, 640]}


def blind_to_severity(i: int) -> list[Detection]:
    """A box in two of three frames with an accident, always called moderate."""
    return [Detection(BOX, "moderate", 0.9)] if i % 3 and i % 9 else []


def instructions(folder: Path, gate: Callable[[int], list[Detection]]) -> Path:
    parts = {"boxed_val": FRAMES, "boxed_train": 9}
    with Stage(folder, kind="instructions", inputs={}, config={}) as made:
        for name, count in parts.items():
            samples = [sample(i, KINDS[i % 3], gate(i)) for i in range(count)]
            (made / f"{name}.json").write_text(json.dumps(samples))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"]["gate"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def judged(
    tmp_path: Path,
    answer: Callable[[int], str],
    gate: Callable[[int], list[Detection]] = blind_to_severity,
    frames: int = FRAMES,
) -> dict[str, Any]:
    folder = instructions(tmp_path / "instructions", gate)
    questions = read_questions(folder, "boxed", "val")[:frames]
    return fitness(folder, "val", questions, [answer(i) for i in range(frames)])


def right(i: int) -> str:
    return told(KINDS[i % 3])


def test_right_answers_are_better_than_every_trivial_one(tmp_path: Path) -> None:
    report = judged(tmp_path, right)
    assert (report["reasons"], report["frames"], report["trained_on"]) == ([], FRAMES, (9, 6))
    assert list(report["against"]) == ["never", "commonest", "gate"]
    assert report["against"]["never"]["count_em"]["value"] == pytest.approx(2 / 3)
    assert (report["gate"]["found"], report["gate"]["frames"]) == (40, 40)
    demand_fit(report, Path("lora"))


def test_an_adapter_that_never_alerts_is_refused_with_the_frames_and_what_would_help(
    tmp_path: Path,
) -> None:
    report = judged(tmp_path, lambda i: told())
    words = "not better than never an alert (SevF1 by 0.00%, 0.00% to 0.00%; Count EM by 0.00%"
    assert report["reasons"][0].startswith(words)
    words = (
        r"lora is not fit for use, by its answers about 60 validation frames: not better .*"
        r"It was trained on 9 frames, 6 of them with an accident: .*yolo12s\.pt.*--accept-untrained"
    )
    with pytest.raises(ModelError, match=words):
        demand_fit(report, Path("lora"))


def test_an_adapter_that_repeats_the_gate_is_refused(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda i: told("moderate") if i % 3 else told())
    assert [reason[:31] for reason in report["reasons"]] == ["not better than the gate alone "]


def test_better_severities_do_not_make_up_for_worse_counts(tmp_path: Path) -> None:
    report = judged(tmp_path, lambda i: told("severe", "severe") if i % 3 == 2 else right(i))
    assert any(reason.startswith("not better than the gate alone") for reason in report["reasons"])
    assert report["against"]["gate"]["sev_f1"]["low"] > 0
    assert report["against"]["gate"]["count_em"]["high"] < 0


@pytest.mark.parametrize(("finds", "refused"), [(13, True), (14, False)])
def test_only_a_gate_that_surely_misses_half_of_the_accidents_is_refused(
    tmp_path: Path, finds: int, refused: bool
) -> None:
    """Of 40: the upper end is 0.4917 at 13 and 0.5173 at 14 (Clopper-Pearson)."""
    accidents = [i for i in range(FRAMES) if i % 3][:finds]
    report = judged(tmp_path, right, lambda i: [Detection(BOX, "severe", 0.9)] * (i in accidents))
    reasons = [reason for reason in report["reasons"] if "the gate finds something" in reason]
    assert bool(reasons) == refused
    if refused:
        assert "in 13 of 40 frames with an accident, surely in under 49%, where 50%" in reasons[0]


@pytest.mark.parametrize(("frames", "fit"), [(8, False), (9, True)])
def test_a_few_frames_on_which_all_goes_well_prove_nothing(
    tmp_path: Path, frames: int, fit: bool
) -> None:
    """Of 8 frames 5 have an accident: the bootstrap alone lets both pass."""
    report = judged(tmp_path, right, lambda i: [Detection(BOX, "severe", 0.9)] * (i == 1), frames)
    assert report["against"]["never"]["count_em"]["low"] > 0
    words = "better than never an alert on 5 frames only, where 6 are the fewest that tell"
    assert (words not in report["reasons"]) == fit


def test_the_interval_of_a_rate_is_the_exact_one() -> None:
    """3 of 10 after the tables of Clopper and Pearson; none of 10 is not surely none."""
    assert rate_interval(3, 10) == pytest.approx((0.3, 0.0667, 0.6525), abs=1e-4)
    assert rate_interval(0, 10) == pytest.approx((0, 0, 0.3085), abs=1e-4)
    assert rate_interval(0, 0) == (None, None, None)


def answers(folder: Path, asked: Path, adapter: Path, **recipe: object) -> Path:
    config = {"inputs": "boxed", "part": "val", "shard": [1, 1], "constrained": None}
    inputs = {"instructions": asked, "adapter": adapter}
    with Stage(folder, kind="predictions", inputs=inputs, config=config | recipe) as made:
        (made / "predictions.jsonl").write_text("")
    return folder


def test_answers_of_another_adapter_part_or_decoding_prove_nothing(tmp_path: Path) -> None:
    asked = instructions(tmp_path / "instructions", blind_to_severity)
    adapter, other = tmp_path / "lora", tmp_path / "other"
    for folder in (adapter, other):
        folder.mkdir()
        (folder / "weights").write_text(folder.name)
    demand_answers_of(answers(tmp_path / "good", asked, adapter), adapter, asked, "boxed")
    for name, given, recipe, words in (
        ("a", other, {}, "another folder of adapter"),
        ("b", adapter, {"part": "test"}, "part test"),
        ("c", adapter, {"constrained": "rules"}, "constrained rules"),
    ):
        made = answers(tmp_path / name, asked, given, **recipe)
        with pytest.raises(ConfigError, match=words):
            demand_answers_of(made, adapter, asked, "boxed")
