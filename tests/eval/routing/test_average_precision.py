"""Average precision when frames count more than once, and of a gate with one class."""

from dataclasses import replace

import numpy as np
import pytest

from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Detection, Size
from eval.routing.average_precision import match, mean_average_precision
from tests.eval.routing.seven_frames import SIZE, TRUTH, detection, records


def random_frames(count: int) -> tuple[list[Frame], list[list[Detection]]]:
    """Frames with boxes, and detections near some of them, of either severity."""
    random = np.random.default_rng(3)
    truth, found = [], []
    for i in range(count):
        corners = random.integers(0, 60, (random.integers(0, 4), 2)).tolist()
        severities = random.choice(["moderate", "severe"], len(corners))
        accidents = []
        for (x, y), severity in zip(corners, severities, strict=True):
            accidents.append(Accident(Box(x, y, x + 30, y + 20, SIZE), severity))
        truth.append(Frame(f"f{i}", f"images/f{i}.png", SIZE, tuple(accidents)))
        places = corners + corners  # each box is found twice
        if i % 3:
            places.append([5, 70])
        detections = []
        for x, y in places:
            dx, dy = random.normal(0, 4, 2)
            box = Box(x + dx, y + dy, x + dx + 30, y + dy + 20, SIZE)
            severity = random.choice(["moderate", "severe"])
            detections.append(Detection(box, severity, float(random.random())))
        found.append(detections)
    return truth, found


def test_a_frame_that_counts_twice_is_as_good_as_two_frames() -> None:
    truth, found = random_frames(12)
    counts = np.array([i % 3 for i in range(12)])
    picked = np.repeat(np.arange(12), counts)
    again = match([truth[i] for i in picked], [found[i] for i in picked], True)
    assert mean_average_precision(match(truth, found, True), counts) == pytest.approx(
        mean_average_precision(again, np.ones(len(picked), int)), abs=1e-12
    )
    assert np.isnan(mean_average_precision(again, np.zeros(len(picked), int))).all()


def test_a_gate_of_one_class_is_right_whatever_the_severity() -> None:
    truth, found = records(), [[detection(0.9, 0, None)] if t else [] for t in TRUTH]
    one = mean_average_precision(match(truth, found, False), np.ones(7, int))
    assert one[0] > 0.7  # the third frame's second box lies under its first
    assert mean_average_precision(match(truth, found, True), np.ones(7, int))[0] == 0


def test_a_detection_in_a_frame_of_another_size_counts_as_in_the_truths() -> None:
    truth, found = random_frames(12)
    small = Size(SIZE.width // 2, SIZE.height // 4)
    moved = [[replace(d, box=d.box.to(small)) for d in in_frame] for in_frame in found]
    once = np.ones(12, int)
    here = mean_average_precision(match(truth, found, True), once)
    assert mean_average_precision(match(truth, moved, True), once) == pytest.approx(here)
    assert here[0] > 0.2


def test_three_detections_of_two_accidents_by_hand() -> None:
    whole, half = Box(0, 0, 20, 10, SIZE), Box(0, 0, 10, 10, SIZE)
    truth = [Frame(f"f{i}", "a.png", SIZE, (Accident(whole, "severe"),)) for i in range(2)]
    sure, again, barely = (
        Detection(box, "severe", p) for box, p in ((whole, 0.9), (whole, 0.8), (half, 0.7))
    )
    found = match(truth, [[again, sure], [barely]], False)
    # The second one takes no box; the third one takes its at an IoU of 0.5, and at no higher one.
    at_half, above = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert mean_average_precision(found, np.ones(2, int)) == pytest.approx(
        [at_half, (at_half + 9 * above) / 10]
    )
    assert mean_average_precision(found, np.zeros(2, int)).shape == (2,)
