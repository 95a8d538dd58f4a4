"""ApproxBit's Tables 1 and 2 follow from shapes, and what does not is named."""

from dataclasses import replace

import pytest

from eval.offloading.printed import Model, Printed, models
from eval.offloading.shapes import Exchanged, Misprint, check, exchanged

MVIT, VIDEO_LLAVA, ONEVISION = models()


def sizes(model: Model, from_shape: bool) -> dict[str, int]:
    return {c.row.method: round(c.size) for c in check(model) if c.from_shape == from_shape}


def test_all_thirteen_feature_rows_of_table_1_follow_from_shapes() -> None:
    assert sizes(MVIT, from_shape=True) == {
        "DNN Surgery-B8": 4_816_896,
        "DNN Surgery-B16": 4_816_896,
        "DeepCOD(1/128)-B8": 37_632,
        "DeepCOD(1/32)-B16": 150_528,
        "DeepCOD(1/128)-B16": 37_632,
        "ApproxBit-64-Enc-B8": 3_136,
        "ApproxBit-64-NoEnc-B8": 25_088,
        "ApproxBit-128-Enc-B8": 6_272,
        "ApproxBit-128-NoEnc-B8": 50_176,
        "ApproxBit-64-Enc-B16": 3_136,
        "ApproxBit-64-NoEnc-B16": 25_088,
        "ApproxBit-128-Enc-B16": 6_272,
        "ApproxBit-128-NoEnc-B16": 50_176,
    }
    worst = max(c.worst_ms for c in check(MVIT) if c.from_shape)
    assert worst == pytest.approx(0.0796, abs=1e-4)


def test_a_predicted_row_by_hand() -> None:
    """64 bits of 16 x 14 x 14 positions; computing is 301.6 ms less the way at 50 Mbps."""
    code = next(c for c in check(MVIT) if c.row.method == "ApproxBit-64-NoEnc-B8")
    assert code.size == 64 * 16 * 14 * 14 / 8
    base = 301.6 - 8 * 25_088 / 50_000
    assert code.base_ms == pytest.approx(base)
    expected = (base + 8 * 25_088 / 3_000, base + 8 * 25_088 / 6_000, 301.6)
    assert code.predicted_ms == pytest.approx(expected)


def test_every_row_of_onevision_follows_from_shapes_and_of_video_llava_one() -> None:
    assert sizes(ONEVISION, from_shape=True) == {
        "DNN Surgery-B8": 53_747_712,
        "ApproxBit-128-Enc-L8": 50_176,
        "ApproxBit-128-NoEnc-L8": 373_248,
        "ApproxBit-256-Enc-L8": 100_352,
        "ApproxBit-256-NoEnc-L8": 746_496,
    }
    assert sizes(VIDEO_LLAVA, from_shape=True) == {"ApproxBit-256-Enc-L8": 8_192}
    # Its other columns agree with one another, at 1,000 bytes for each 1,024 and about 190 more.
    implied = sizes(VIDEO_LLAVA, from_shape=False)
    assert implied["ApproxBit-128-Enc-L8"] == pytest.approx(4_000 + 190, abs=10)
    assert implied["ApproxBit-128-NoEnc-L8"] == pytest.approx(32_000 + 190, abs=10)
    assert implied["ApproxBit-256-NoEnc-L8"] == pytest.approx(64_000 + 190, abs=10)
    assert implied["DNN Surgery-B8"] == pytest.approx(1_024_000 + 190, abs=10)


def test_two_cells_are_misprinted_and_no_other() -> None:
    found = [c.misprint for model in models() for c in check(model) if c.misprint is not None]
    assert found == [
        Misprint("Video-LLaVA-7B", "ApproxBit-256-NoEnc-L8", 6, 1719.8, 1791.8),
        Misprint("LLaVA-OneVision-0.5B", "DNN Surgery-B8", 3, 14440.4, 144404.8),
    ]
    assert all(c.worst_ms <= 0.1 + 1e-6 for model in models() for c in check(model))


def printed(latency: tuple[float, float, float], **changes: object) -> Model:
    row = Printed("code", "feature", latency, (70.0,), (64, 16, 14, 14), 1)
    return replace(MVIT, rows=(replace(row, **changes),))


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("change", [1.0, -5.0])
def test_a_cell_that_is_changed_is_found(column: int, change: float) -> None:
    right = [364.5, 331.1, 301.6]
    wrong = list(right)
    wrong[column] += change
    (checked,) = check(printed(tuple(wrong)))
    assert checked.from_shape
    assert checked.misprint is not None
    assert checked.misprint.mbps == MVIT.mbps[column]
    assert checked.misprint.expected_ms == pytest.approx(right[column], abs=0.11)


def test_a_deviation_of_a_tenth_is_rounding_and_of_two_is_not() -> None:
    base = 300.0
    exact = [base + 8 * 25_088 / (1000 * mbps) for mbps in MVIT.mbps]
    (fine,) = check(printed((exact[0], exact[1] + 0.1, exact[2])))
    (wrong,) = check(printed((exact[0], exact[1] + 0.2, exact[2])))
    assert fine.misprint is None
    assert wrong.misprint is not None


def test_without_a_shape_two_columns_give_the_bytes() -> None:
    (checked,) = check(printed((364.5, 331.1, 301.6), tensor=None))
    assert not checked.from_shape
    assert checked.size == pytest.approx(25_088, abs=60)
    assert checked.misprint is None


def test_pairs_of_which_high_compression_sends_more() -> None:
    found = [pair for model in models() for pair in exchanged(model, check(model))]
    assert [(p.model, p.method, p.more_accurate) for p in found] == [
        ("MViTv2-B", "DCVC-FM", True),
        ("LLaVA-OneVision-0.5B", "LimitNet", False),
    ]
    limitnet = found[1]
    assert isinstance(limitnet, Exchanged)
    assert round(limitnet.low_bytes) == 599_481
    assert round(limitnet.high_bytes) == 899_242
