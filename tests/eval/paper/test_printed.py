import pytest

from eval.paper import printed
from eval.uplink.study import PATTERNS
from eval.uplink.timeliness import COLUMNS

TABLE_3 = {(row["block"][0], row["method"]): row for row in printed.table(3)}


def test_table_3_has_the_papers_rows_and_columns():
    assert len(TABLE_3) == 11
    for row in printed.table(3):
        assert row.keys() == {"block", "method", *COLUMNS}
        assert row["block"] in PATTERNS
    assert TABLE_3["C", "DAT"] == {**TABLE_3["B", "DAT"], "block": TABLE_3["C", "DAT"]["block"]}
    assert TABLE_3["C", "JSON-Only"]["avg_visual_delay"] is None


@pytest.mark.parametrize(
    ("block", "method", "column", "percent"),
    [
        ("A", "Priority-Only", "avg_visual_delay", 42.2),
        ("B", "Bandwidth-Only", "w_alarm", 77.5),
        ("B", "Priority-Only", "w_alarm", 68.8),
        ("B", "Bandwidth-Only", "avg_visual_delay", 75.4),
        ("B", "Priority-Only", "avg_visual_delay", 49.8),
    ],
)
def test_table_3_gives_the_reductions_of_section_4_2_3(block, method, column, percent):
    dat, other = TABLE_3[block, "DAT"], TABLE_3[block, method]
    assert 100 * (1 - dat[column] / other[column]) == pytest.approx(percent, abs=0.05)


def test_the_rows_of_tables_1_and_2_have_names():
    assert [row["row"] for row in printed.table(1)] == [
        "raw-none",
        "raw-lora",
        "gpt-5",
        "boxed-lora",
    ]
    assert [row["row"] for row in printed.table(2)] == ["boxed-none", "gpt-5", "boxed-lora"]
