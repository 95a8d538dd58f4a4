"""Answers without an MLLM, by hand: where they put their boxes, and whom they mark."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.errors import ManifestError
from dat_runtime.prompt import task_prompt
from dat_runtime.stage import Stage
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Detection, Severity, Size
from eval.understanding import trivial
from eval.understanding.metrics import TABLE_1, difference, measure

LARGE, MIDDLE, SMALL = Size(200, 160), Size(100, 80), Size(50, 40)


def accident(corners: tuple[int, int, int, int], size: Size, severity: Severity) -> Accident:
    return Accident(Box(*corners, size), severity)


def frame(size: Size, *accidents: Accident, image_id: str = "a") -> Frame:
    return Frame(image_id, "", size, accidents)


THREE = (
    frame(MIDDLE, accident((10, 8, 30, 40), MIDDLE, "severe")),  # 0.1 0.1 0.3 0.5
    frame(LARGE, accident((40, 16, 80, 64), LARGE, "severe")),  # 0.2 0.1 0.4 0.4
    frame(SMALL, accident((15, 12, 45, 20), SMALL, "severe")),  # 0.3 0.3 0.9 0.5
)
"""One severe accident each: at the median 0.2 0.1 0.4 0.5."""


def test_the_commonest_accidents_lie_at_the_median_of_their_places() -> None:
    quiet, moderate = frame(SMALL), frame(SMALL, accident((0, 0, 9, 9), SMALL, "moderate"))
    [(box, severity)] = trivial.commonest([*[quiet] * 5, moderate, moderate, *THREE])
    assert (box.tolist(), severity) == (pytest.approx([0.2, 0.1, 0.4, 0.5]), "severe")
    assert [s for _, s in trivial.commonest([*[moderate] * 4, *THREE])] == ["moderate"]
    assert trivial.commonest([quiet]) == trivial.commonest([]) == []


def test_accidents_are_paired_in_the_order_of_an_answer() -> None:
    far, near = (80, 40, 100, 80), (0, 0, 20, 40)
    both = accident(near, MIDDLE, "moderate"), accident(far, MIDDLE, "severe")
    found = trivial.commonest([frame(MIDDLE, *both), frame(MIDDLE, *reversed(both))])
    assert [(box.tolist(), severity) for box, severity in found] == [
        (pytest.approx([0.8, 0.5, 1.0, 1.0]), "severe"),
        (pytest.approx([0.0, 0.0, 0.2, 0.5]), "moderate"),
    ]


def sample(image_id: str, size: Size, found: list[Detection], *told: Accident) -> dict[str, Any]:
    turns = [{"content": f"<image>{task_prompt(size, found)}"}, {"content": dump(target(told))}]
    about = {"image_id": image_id, "system": "", "messages": turns, "images": [f"{image_id}.jpg"]}
    sides = [size.width, size.height]
    return about | {"frame": sides, "original": sides}


def write_part(folder: Path, name: str, *samples: dict[str, Any]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(samples))


@pytest.mark.parametrize("inputs", ["raw", "boxed"])
def test_each_trivial_answer_is_in_the_pixels_of_its_frame(tmp_path: Path, inputs: str) -> None:
    training = [sample(str(i), f.size, [], *f.accidents) for i, f in enumerate(THREE)]
    write_part(tmp_path, f"{inputs}_train", *training, sample("quiet", SMALL, []))
    seen = Detection(Box(5, 4, 25, 20, SMALL), "moderate", 0.9)
    write_part(tmp_path, "boxed_test", sample("a", SMALL, [seen]), sample("b", MIDDLE, []))
    frames = [frame(MIDDLE), frame(LARGE, image_id="b")]
    told = trivial.answers(tmp_path, frames, "test")
    assert list(told) == ["never", "commonest", "gate"]
    quiet = dump(target([]))
    assert told["never"] == [quiet, quiet]
    assert told["commonest"] == [
        dump(target([accident((20, 8, 40, 40), MIDDLE, "severe")])),
        dump(target([accident((40, 16, 80, 80), LARGE, "severe")])),
    ]
    assert told["gate"] == [
        dump(target([accident((10, 8, 50, 40), MIDDLE, "moderate")])),
        quiet,
    ]
    assert trivial.training_counts(tmp_path) == (4, 3)


def test_what_the_instructions_do_not_tell_is_left_out(tmp_path: Path) -> None:
    assert trivial.training_counts(tmp_path) == (0, 0)
    assert list(trivial.answers(tmp_path, [], "test")) == ["never"]
    write_part(tmp_path, "raw_train", sample("quiet", SMALL, []))
    assert list(trivial.answers(tmp_path, [], "test")) == ["never"]


def test_only_a_manifest_tells_whose_boxes_they_are(tmp_path: Path) -> None:
    assert trivial.gate_of(tmp_path) == ""
    made = tmp_path / "instructions"
    with Stage(made, kind="instructions", inputs={}, config={}) as folder:
        write_part(folder, "boxed_test")
    assert trivial.gate_of(made) is None
    assert list(trivial.answers(made, [], "test")) == ["never"]
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["inputs"]["gate"] = "f" * 64
    (made / "manifest.json").write_text(json.dumps(manifest))
    assert trivial.gate_of(made) == "f" * 64
    assert list(trivial.answers(made, [], "test")) == ["never", "gate"]
    manifest["kind"] = "data"
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="instructions"):
        trivial.gate_of(made)


def test_a_row_is_marked_by_the_best_trivial_one_of_each_metric() -> None:
    hit = [accident((20, 8, 40, 40), MIDDLE, "severe")]
    frames = [frame(MIDDLE, *hit) if i % 4 == 0 else frame(MIDDLE) for i in range(40)]
    right = measure(frames, [dump(target(f.accidents)) for f in frames])
    never = measure(frames, [dump(target([]))] * 40)
    always = measure(frames, [dump(target(hit))] * 40)
    marked = trivial.marks({"right": right, "never": never}, {"never": never, "always": always})
    # Boxes: `always` finds each true one. Counts and severities: `never` is right more often.
    assert list(marked["right"]) == ["bbox_miou", "recall_50"]
    assert {name: found["trivial"] for name, found in marked["never"].items()} == {
        name: "always" if name in ("bbox_miou", "recall_50") else "never" for name in TABLE_1
    }
    apart = difference(never, always)["recall_50"]
    assert apart == (-1.0, -1.0, -1.0)
    assert marked["never"]["recall_50"]["difference"] == apart._asdict()


def test_without_a_true_box_the_metrics_of_boxes_mark_nothing() -> None:
    frames = [frame(MIDDLE)] * 4
    never = measure(frames, [dump(target([]))] * 4)
    marked = trivial.marks({"row": never}, {"never": never})["row"]
    assert list(marked) == ["count_em", "count_mae", "sev_acc", "sev_f1"]
    assert np.isfinite([found["difference"]["value"] for found in marked.values()]).all()
