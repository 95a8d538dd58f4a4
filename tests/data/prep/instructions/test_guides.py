"""Whose detections guide the MLLM: the gate's, the labels', or those of the gate that was not
trained on a frame."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.edge.settings import GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.manifest import verify
from dat_runtime.stage import Stage
from dat_runtime.truth import SPLITS, Frame, read_split
from dat_runtime.types import SEVERITIES, Accident, Box, Detection, Severity, Size
from data.prep import instruct
from data.prep.instructions import guides
from data.prep.instructions.guides import Tally
from tests.conftest import SIDE, constant_gate
from tests.data.prep.prepared_builder import write_data

FRAME = Size(100, 100)
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four frames a part, each with one moderate accident in its upper left quarter."""
    return write_data(tmp_path / "data", dict.fromkeys(NAMES, (100, 100)), [0, 0, 50, 50])


def make_gate(
    out: Path,
    data: Path,
    confidence: float,
    left_out: Any = None,
    notes: dict[str, str] | None = None,
) -> Path:
    """A gate that sees one severe accident in the middle, with this confidence."""
    settings = GateSettings(classes=SEVERITIES, imgsz=SIDE).as_json()
    with Stage(out, kind="gate", inputs={"data": data}, config={"out": out.name}) as folder:
        (folder / "gate.json").write_text(json.dumps(settings))
        row = [SIDE / 2, SIDE / 2, 16, 8, 0.0, confidence]
        (folder / "gate.onnx").write_bytes(constant_gate([row]))
        if left_out is not None:
            (folder / "held_out.json").write_text(
                json.dumps({"image_ids": left_out, **(notes or {})})
            )
    return out


@pytest.fixture
def whole(tmp_path: Path, data: Path) -> Path:
    return make_gate(tmp_path / "gate", data, 0.9)


def run(data: Path, *options: object) -> int:
    out = ["--data", str(data), "--out", str(data.with_name("instructions"))]
    return instruct.main([*out, *map(str, options)])


def out_of_fold(whole: Path, *folds: Path) -> list[object]:
    named = [argument for fold in folds for argument in ("--fold-gate", fold)]
    return ["--detections", "out-of-fold", "--gate", whole, *named]


def said(data: Path, part: str) -> dict[str, str]:
    """Per frame what its boxed prompt says after the image's size."""
    path = data.with_name("instructions") / f"boxed_{part}.json"
    samples = json.loads(path.read_text())
    return {s["image_id"]: s["messages"][0]["content"].partition(": ")[2] for s in samples}


def tallied(data: Path) -> dict[str, Any]:
    return json.loads((data.with_name("instructions") / "detections.json").read_text())


def test_each_training_frame_is_shown_as_the_gate_sees_it_that_left_it_out(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    folds = [
        make_gate(tmp_path / "fold-1", data, 0.3, ["a", "c"]),
        make_gate(tmp_path / "fold-2", data, 0.6, ["b", "d"]),
    ]
    assert run(data, *out_of_fold(whole, *folds)) == 0
    confidences = {name: words.split()[1] for name, words in said(data, "train").items()}
    assert confidences == {"a": "0.30", "b": "0.60", "c": "0.30", "d": "0.60"}
    for part in ("val", "test"):
        assert {words.split()[1] for words in said(data, part).values()} == {"0.90"}
    made = verify(data.with_name("instructions"), "instructions")
    assert made.inputs.keys() == {"data", "gate", "fold-gate 1", "fold-gate 2"}
    assert made.config["detections"] == "out-of-fold"


def test_the_labels_guide_as_a_gate_without_error_would(data: Path) -> None:
    assert run(data, "--detections", "labels") == 0
    for part in SPLITS:
        assert set(said(data, part).values()) == {"moderate 1.00 [0, 0, 56, 56]"}
    assert tallied(data)["parts"]["test"] == {
        "frames": 4, "frames_with_detection": 4, "frames_with_missed": 0, "frames_with_extra": 0,
        "accidents": 4, "missed": 0, "detections": 4, "extra": 0, "other_severity": 0,
    }  # fmt: skip
    assert "gate" not in verify(data.with_name("instructions")).inputs


def test_how_often_the_gate_errs_is_printed_and_kept(
    data: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, "--gate", whole) == 0
    assert tallied(data).keys() == {"from", "iou", "parts"}
    assert (tallied(data)["from"], tallied(data)["iou"]) == ("gate", 0.5)
    assert tallied(data)["parts"]["train"]["frames_with_missed"] == 4
    line = "train: 4 frames, 4 with a detection, 4 with an accident missed, 4 with a box too many"
    assert line in capsys.readouterr().out


def test_a_frame_is_looked_at_by_the_gate_that_left_it_out_whatever_else_that_gate_notes(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    folds = [
        make_gate(tmp_path / "fold-1", data, 0.3, ["a", "c"], {"fold": "1/2"}),
        make_gate(tmp_path / "fold-2", data, 0.6, ["b", "d"]),
    ]
    guide = guides.out_of_fold(data, whole, folds)
    for frame in read_split(data, "train"):
        (seen,) = guide(frame, read_frame(data / frame.image))
        assert seen.confidence == pytest.approx(0.3 if frame.image_id in "ac" else 0.6)
        assert seen.box.frame == frame.size


def test_what_the_gates_of_a_run_are_called(data: Path, whole: Path, tmp_path: Path) -> None:
    folds = tuple(make_gate(tmp_path / name, data, 0.3, [name]) for name in ("f", "g"))
    gates = guides.Gates("out-of-fold", whole, folds)
    assert gates.inputs == {"gate": whole, "fold-gate 1": folds[0], "fold-gate 2": folds[1]}
    assert gates.classes == list(SEVERITIES)
    of_labels = guides.Gates("labels")
    assert (of_labels.inputs, of_labels.classes) == ({}, list(SEVERITIES))
    assert of_labels.guides(data) == dict.fromkeys(SPLITS, guides.from_labels)


def labelled(*boxes: tuple[float, float], severity: Severity = "moderate") -> Frame:
    accidents = tuple(Accident(Box(x, y, x + 20, y + 20, FRAME), severity) for x, y in boxes)
    return Frame("a", "a.jpg", FRAME, accidents)


def detection(x: float, y: float, confidence: float = 0.5, severity: Any = "moderate") -> Detection:
    return Detection(Box(x, y, x + 20, y + 20, FRAME), severity, confidence)


def test_a_tally_counts_what_is_found_missed_and_too_many() -> None:
    tally = Tally()
    tally.add(labelled((0, 0), (50, 50)), [detection(2, 2), detection(0, 0, 0.9), detection(80, 0)])
    tally.add(labelled(), [])
    tally.add(labelled(), [detection(0, 0)])
    tally.add(labelled((0, 0)), [detection(0, 0, severity="severe")])
    tally.add(labelled((0, 0)), [detection(0, 0, severity=None)])
    assert tally == Tally(
        frames=5, frames_with_detection=4, frames_with_missed=1, frames_with_extra=2,
        accidents=4, missed=1, detections=6, extra=3, other_severity=1,
    )  # fmt: skip


def test_a_tally_says_all_its_counts() -> None:
    assert Tally(1, 2, 3, 4, 5, 6, 7, 8, 9).words() == (
        "1 frames, 2 with a detection, 3 with an accident missed, 4 with a box too many; "
        "6 of 5 accidents missed, 8 of 7 boxes too many, 9 of another severity"
    )


def test_the_surest_detection_chooses_first_in_whatever_order_they_come() -> None:
    truth = labelled((0, 0), (12, 0))
    pair = [detection(6, 0, 0.5), detection(0, 0, 0.9)]  # the first overlaps both, the second one
    for detections in (pair, pair[::-1]):
        tally = Tally()
        tally.add(truth, detections)
        assert (tally.missed, tally.extra) == (0, 0)


def test_half_an_overlap_finds_an_accident_in_a_frame_of_any_size() -> None:
    tally = Tally()
    tally.add(labelled((0, 0)), [Detection(Box(0, 0, 10, 10, Size(50, 100)), "moderate", 0.5)])
    tally.add(labelled((0, 0)), [Detection(Box(0, 0, 20, 9.9, FRAME), "moderate", 0.5)])
    assert (tally.accidents, tally.missed, tally.extra) == (2, 1, 1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "--detections gate needs --gate"),
        (["--detections", "labels", "--gate", "G"], "--detections labels takes no --gate"),
        (["--detections", "out-of-fold", "--gate", "G"], "needs --fold-gate for every fold"),
        (["--gate", "G", "--fold-gate", "F"], "--detections gate takes no --fold-gate"),
    ],
)
def test_gates_that_would_be_ignored_or_are_lacking_are_refused(
    data: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, *options) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        (
            ["a"],
            ["d"],
            "no gate left out 2 of 4 training frames, such as 'b': train.gate --fold makes a gate "
            "for each fold; name each of them by --fold-gate\n",
        ),
        (
            ["a", "b"],
            ["b", "c", "d"],
            "both left 'b' out: expected one gate for each fold of the same count\n",
        ),
        (["a", "b", "c", "d"], None, "left no fold out: train.gate --fold 1/3"),
        (["a", "b", "c", "d"], 3, "held_out.json: image_ids is 3, expected a list"),
    ],
)
def test_folds_that_do_not_make_up_the_training_frames_are_refused(
    data: Path,
    whole: Path,
    tmp_path: Path,
    first: Any,
    second: Any,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folds = [
        make_gate(tmp_path / "fold-1", data, 0.3, first),
        make_gate(tmp_path / "fold-2", data, 0.6, second),
    ]
    assert run(data, *out_of_fold(whole, *folds)) == 1
    assert complaint in capsys.readouterr().err
    assert not data.with_name("instructions").exists()


def test_gates_of_other_data_and_a_fold_as_the_whole_gate_are_refused(
    data: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = make_gate(tmp_path / "fold", data, 0.3, list(NAMES))
    assert run(data, *out_of_fold(fold, fold)) == 1
    words = f"--gate {fold} left a fold out: expected the gate trained on all frames\n"
    assert words in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    foreign = make_gate(tmp_path / "foreign", tmp_path / "elsewhere", 0.3, list(NAMES))
    assert run(data, *out_of_fold(whole, foreign)) == 1
    assert "foreign was trained from other data" in capsys.readouterr().err


def test_a_fold_of_one_class_beside_a_gate_of_two_is_refused(
    data: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = make_gate(tmp_path / "fold", data, 0.3, list(NAMES))
    settings = json.loads((fold / "gate.json").read_text()) | {"classes": ["accident"]}
    with Stage(fold, kind="gate", inputs={"data": data}, config={}) as folder:
        (folder / "gate.json").write_text(json.dumps(settings))
        (folder / "held_out.json").write_text(json.dumps({"image_ids": list(NAMES)}))
    assert run(data, *out_of_fold(whole, fold)) == 1
    assert "expected gates of the same classes" in capsys.readouterr().err
