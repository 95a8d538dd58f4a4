"""What codes and pictures are worth at equal bytes, in words to the letter."""

from dataclasses import asdict
from typing import Any

from dat_runtime.offload_table import Row, Table
from eval.offloading.curve import SEEN, leads
from eval.offloading.curve_report import NOT_LOOKING, of_curve
from eval.offloading.sections import markdown
from tests.eval.offloading import measured


def rows() -> list[dict[str, Any]]:
    """The gate alone, then what was measured."""
    gate = measured.row("gate alone", "gate", 0, 0.75) | {"merger_error": None}
    return [gate, *(measured.row(*known) for known in measured.ROWS)]


def results(**changes: Any) -> dict[str, Any]:
    found = {metric: leads(rows(), metric) for metric in ("count_em", "sev_f1", "bbox_miou", SEEN)}
    goal = {"code": "code, 32 channels", "bytes": 280.0, "against": [1, 2, 3]}
    return {
        "frames": 4,
        "rows": rows(),
        "leads": {metric: [asdict(lead) for lead in kept] for metric, kept in found.items()},
        "goal": goal | {"beaten": [1, 2], "lost": [3]},
        "picture_matters": True,
        **changes,
    }


TABLE = Table(
    "count_em",
    "ours",
    (
        Row("gate alone", "edge", 0, 0.75),
        Row("code, 32 channels", "code", 280, 0.9, server_s=0.2),
        Row("webp q50", "webp", 3_000, 0.8, server_s=0.15),
        Row("jpeg q90", "jpeg", 90_000, 0.95, server_s=0.17),
    ),
    "0123456789abcdef",
)

REPORT = """\
# Curve

ours.

## Our own accuracy by bytes

What answers are worth by the bytes that leave the node beyond the alert, on 4 test frames, with 95 % intervals. 

- Count EM, the best that fits: from 88 bytes a code (best: code, 8 channels, 88 bytes, 0.400); from 250 bytes a picture (best: webp q1, 250 bytes, 0.500); from 280 bytes a code (best: code, 32 channels, 280 bytes, 0.700); from 3,000 bytes a picture (best: webp q9, camera's size, 9,000 bytes, 0.950).
- SevF1, the best that fits: from 88 bytes a code (best: code, 8 channels, 88 bytes, 0.400); from 250 bytes a picture (best: webp q1, 250 bytes, 0.500); from 280 bytes a code (best: code, 32 channels, 280 bytes, 0.700); from 3,000 bytes a picture (best: webp q9, camera's size, 9,000 bytes, 0.950).
- Error of what is seen, as a share of the variance of the vision tower's output (less is better), the best that fits: from 88 bytes a code (best: code, 8 channels, 88 bytes, 0.600); from 250 bytes a picture (best: webp q1, 250 bytes, 0.500); from 280 bytes a code (best: code, 32 channels, 280 bytes, 0.300); from 3,000 bytes a picture (best: webp q9, camera's size, 9,000 bytes, 0.050).
- The gate alone, which sends no byte more: Count EM 0.750 (0.700-0.800), SevF1 0.750 (0.700-0.800), BBox mIoU -.
- Paired over the same frames, in Count EM and SevF1 together: code, 32 channels (280 bytes) is better beyond chance than 2 of 3 pictures of up to 8 kB, and worse beyond chance than 1.

| Way | Bytes | Error of what is seen | Count EM | SevF1 | BBox mIoU |
| --- | --- | --- | --- | --- | --- |
| gate alone | 0 | - | 0.750 (0.700-0.800) | 0.750 (0.700-0.800) | - |
| boxes alone | 0 | 0.900 | 0.100 (0.050-0.150) | 0.100 (0.050-0.150) | - |
| code, 8 channels | 88 | 0.600 | 0.400 (0.350-0.450) | 0.400 (0.350-0.450) | - |
| code, 32 channels | 280 | 0.300 | 0.700 (0.650-0.750) | 0.700 (0.650-0.750) | - |
| features | 12,288 | 0.100 | 0.900 (0.850-0.950) | 0.900 (0.850-0.950) | - |
| webp q1 | 250 | 0.500 | 0.500 (0.450-0.550) | 0.500 (0.450-0.550) | - |
| jpeg q5 | 1,000 | 0.400 | 0.600 (0.550-0.650) | 0.600 (0.550-0.650) | - |
| webp q50 | 3,000 | 0.200 | 0.800 (0.750-0.850) | 0.800 (0.750-0.850) | - |
| webp q9, camera's size | 9,000 | 0.050 | 0.950 (0.900-1.000) | 0.950 (0.900-1.000) | - |

## What the controller selects

What a node selects from the table at each bandwidth: the most accurate row within a latency, or the fastest within a hundredth of the best accuracy.

- * the target cannot be kept: the fastest row.
- Of each latency a picture's answer takes 0.17 s of computing, on the machine that measured it; the rest is for the network.

| Mbps | within 0.22 s | within 0.37 s | within 1.17 s | at least 0.940 |
| --- | --- | --- | --- | --- |
| 0 | gate alone | gate alone | gate alone | jpeg q90 |
| 0.01 | gate alone | gate alone | code, 32 channels | jpeg q90 |
| 0.02 | gate alone | code, 32 channels | code, 32 channels | jpeg q90 |
| 0.05 | gate alone | code, 32 channels | code, 32 channels | jpeg q90 |
| 0.1 | gate alone | code, 32 channels | code, 32 channels | jpeg q90 |
| 0.2 | code, 32 channels | code, 32 channels | code, 32 channels | jpeg q90 |
| 0.5 | code, 32 channels | code, 32 channels | code, 32 channels | jpeg q90 |
| 1 | code, 32 channels | code, 32 channels | jpeg q90 | jpeg q90 |
| 3 | code, 32 channels | code, 32 channels | jpeg q90 | jpeg q90 |
| 10 | code, 32 channels | jpeg q90 | jpeg q90 | jpeg q90 |
"""  # noqa: E501


def test_the_curve_is_told_in_words_and_tables() -> None:
    assert markdown("Curve", "ours", of_curve(results(), TABLE)) == REPORT


def test_where_the_picture_does_not_matter_no_accuracy_praises_a_way() -> None:
    measured_rows, _ = of_curve(results(picture_matters=False, goal=None), TABLE)
    assert measured_rows.says == (
        "What answers are worth by the bytes that leave the node beyond the alert, on 4 test "
        f"frames, with 95 % intervals. {NOT_LOOKING}"
    )
    assert [remark.partition(",")[0] for remark in measured_rows.remarks] == [
        "Error of what is seen",
        "The gate alone",
    ]
    assert measured_rows.plot == "curve"
