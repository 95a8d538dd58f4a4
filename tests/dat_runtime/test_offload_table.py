"""The look-up table and the controller of ApproxBit's Eq. 1-2."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.errors import ConfigError
from dat_runtime.files import write_json
from dat_runtime.offload_table import RecentBandwidth, Row, Table, read_table, select

GATE = Row("gate", "edge", 0, 0.40, edge_s=0.01)
SMALL = Row("code-64", "code", 2_000, 0.60, 0.10, 0.02, 0.03, 0.15, 7, True, 64)
LARGE = Row("code-128", "code", 4_000, 0.70, 0.10, 0.02, 0.03, 0.15, 7, True, 128)
WEBP = Row("webp-q10", "webp", 10_000, 0.80, 0.0, 0.01, 0.0, 0.29, quality=10)
ROWS = (GATE, SMALL, LARGE, WEBP)
"""At 10,000 bytes/s, nothing queued: 0.01, 0.5, 0.7 and 1.3 s."""


def test_latency_is_the_sum_of_eq_1() -> None:
    assert SMALL.latency(10_000) == pytest.approx(0.10 + 0.02 + 0.2 + 0.03 + 0.15)
    assert SMALL.latency(10_000, queued=3_000) == pytest.approx(0.8)
    assert GATE.latency(10_000, queued=3_000) == 0.01
    assert SMALL.latency(0) == math.inf
    assert GATE.latency(0) == 0.01


@pytest.mark.parametrize(
    ("wanted", "row", "feasible"),
    [
        ({"max_latency": 1.4}, WEBP, True),
        ({"max_latency": 0.8}, LARGE, True),
        ({"max_latency": 0.6}, SMALL, True),
        ({"max_latency": 0.01}, GATE, True),  # at the bound
        ({"max_latency": 0.009}, GATE, False),  # the fastest
        ({"min_accuracy": 0.0}, GATE, True),
        ({"min_accuracy": 0.41}, SMALL, True),
        ({"min_accuracy": 0.70}, LARGE, True),  # at the bound
        ({"min_accuracy": 0.71}, WEBP, True),
        ({"min_accuracy": 0.81}, WEBP, False),  # the most accurate
    ],
)
def test_each_target_has_its_row(wanted: dict[str, float], row: Row, feasible: bool) -> None:
    assert select(ROWS, 10_000, **wanted) == (row, feasible)


def test_what_waits_ahead_makes_a_smaller_row_the_best() -> None:
    assert select(ROWS, 10_000, max_latency=1.4).row is WEBP
    assert select(ROWS, 10_000, max_latency=1.4, queued=2_000).row is LARGE
    assert select(ROWS, 10_000, max_latency=1.4, queued=20_000).row is GATE
    slow_gate, code = Row("gate", "edge", 0, 0.4, edge_s=1.0), Row("code", "code", 50, 0.6)
    assert select([slow_gate, code], 100, min_accuracy=0.1).row is code  # 0.5 s
    assert select([slow_gate, code], 100, min_accuracy=0.1, queued=100).row is slow_gate


def test_without_bandwidth_the_gate_answers_alone() -> None:
    assert select(ROWS, 0, max_latency=1.0) == (GATE, True)
    assert select(ROWS, 0, max_latency=0.001) == (GATE, False)
    # An accuracy can be had later only: of those that will do, the one of the fewest bytes waits.
    assert select(ROWS, 0, min_accuracy=0.65) == (LARGE, True)


def test_ties_are_decided() -> None:
    fast, slow = Row("fast", "code", 10, 0.5, edge_s=0.1), Row("slow", "code", 10, 0.5, edge_s=0.2)
    assert select([slow, fast], 1e9, max_latency=1).row is fast  # equally accurate: the faster
    light = Row("light", "code", 1_000, 0.5, edge_s=0.5)
    heavy = Row("heavy", "code", 2_000, 0.6, edge_s=0.25)
    assert light.latency(4_000) == heavy.latency(4_000) == 0.75
    assert select([heavy, light], 4_000, min_accuracy=0.5).row is light  # fewer bytes
    assert select([light], 4_000, max_latency=0.75) == (light, True)  # nothing waits ahead
    better = Row("better", "code", 1_000, 0.7, edge_s=0.5)
    assert select([light, better], 4_000, min_accuracy=0.5).row is better  # then the more accurate
    twin = Row("twin", "code", 1_000, 0.5, edge_s=0.5)
    assert select([twin, light], 4_000, max_latency=1).row is twin  # then the earlier


ANY_ROW = st.builds(
    Row,
    st.just("row"),
    st.just("code"),
    st.integers(0, 50_000),
    st.floats(0, 1),
    st.floats(0, 2),
)


@given(
    st.lists(ANY_ROW, min_size=1, max_size=12),
    st.one_of(st.just(0.0), st.floats(0.1, 1e7)),
    st.floats(0, 3),
    st.booleans(),
    st.integers(0, 100_000),
)
def test_no_other_row_is_better(
    rows: list[Row], bandwidth: float, target: float, by_latency: bool, queued: int
) -> None:
    """Eq. 2, by enumeration."""
    pairs = [(row.latency(bandwidth, queued), row.accuracy) for row in rows]
    if by_latency:
        row, feasible = select(rows, bandwidth, max_latency=target, queued=queued)
        within = [(-a, t) for t, a in pairs if t <= target]
        expected = min(within) if within else min((t, a) for t, a in pairs)
    else:
        row, feasible = select(rows, bandwidth, min_accuracy=target / 3, queued=queued)
        within = [(t, a) for t, a in pairs if a >= target / 3]
        expected = min(within) if within else min((-a, t) for t, a in pairs)
    assert feasible == bool(within)
    taken = row.latency(bandwidth, queued)
    first = -row.accuracy if by_latency == feasible else taken
    assert first == expected[0]
    assert (taken, row.accuracy) in pairs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "^expected one of max_latency and min_accuracy$"),
        ({"max_latency": 1, "min_accuracy": 0.5}, "expected one of"),
        ({"max_latency": -1}, "max_latency must be finite and not negative, got -1"),
        ({"min_accuracy": math.nan}, "min_accuracy must be finite"),
        ({"max_latency": 1, "queued": -1}, "queued must be finite"),
        ({"max_latency": 1, "bandwidth": math.inf}, "bandwidth must be finite"),
        ({"max_latency": 1, "rows": ()}, "^rows must not be empty$"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(**({"rows": ROWS, "bandwidth": 1e4} | arguments))


def test_the_controller_counts_on_a_low_quantile_of_the_last_eight() -> None:
    recent = RecentBandwidth(initial=5.0)
    assert recent.value == 5.0
    recent.add(70.0)
    assert recent.value == 70.0
    for sample in (80, 10, 60, 20, 50, 30, 40):
        recent.add(sample)
    assert recent.value == 10.0
    for sample in (90, 90, 90):  # 70, 80 and 10 are forgotten
        recent.add(sample)
    assert recent.value == 20.0
    recent.add(0)
    assert recent.value == 0.0


def test_a_link_that_breaks_down_counts_at_once() -> None:
    recent = RecentBandwidth(50.0)
    for _ in range(8):
        recent.add(50.0)
    recent.add(3.0)
    assert recent.value == 3.0


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.sampled_from([0.0, 0.1, 0.25, 1.0]))
def test_the_quantile_is_numpys(samples: list[float], quantile: float) -> None:
    recent = RecentBandwidth(1.0, quantile=quantile)
    for sample in samples:
        recent.add(sample)
    assert recent.value == np.quantile(samples[-8:], quantile, method="inverted_cdf")


def test_one_sample_may_be_all_that_is_remembered() -> None:
    recent = RecentBandwidth(1.0, samples=1)
    for sample in (3.0, 9.0):
        recent.add(sample)
    assert recent.value == 9.0


def test_what_is_no_bandwidth_is_refused() -> None:
    with pytest.raises(ValueError, match="initial must be finite"):
        RecentBandwidth(math.nan)
    with pytest.raises(ValueError, match="bytes_per_s must be finite and not negative, got -1"):
        RecentBandwidth(1.0).add(-1)
    with pytest.raises(ValueError, match="samples from 1"):
        RecentBandwidth(1.0, samples=0)
    with pytest.raises(ValueError, match=r"a quantile in \[0, 1\], got 8 and 1.5"):
        RecentBandwidth(1.0, quantile=1.5)


TABLE = Table("count_em", "tiny model, rendered scenes", ROWS, codec="0123456789abcdef")


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    write_json(tmp_path / "table.json", TABLE.as_json())
    assert read_table(tmp_path / "table.json") == TABLE


def changed(row: int, **values: object) -> dict[str, object]:
    document = TABLE.as_json()
    document["rows"][row].update(values)
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], r"\[\] is not an object"),
        (TABLE.as_json() | {"version": 2}, "version is 2, expected 1"),
        (TABLE.as_json() | {"rows": []}, "rows is .*expected a list of 1 to 1000"),
        (changed(1, accuracy=1.5), r"rows\[1\]: accuracy is 1.5, expected a number from 0 to 1"),
        (changed(1, edge_s=-0.1), r"rows\[1\]: edge_s is -0.1"),
        (changed(1, bytes=0), r'rows\[1\]: a row of kind "code" needs bytes'),
        (changed(0, bytes=9), r'rows\[0\]: a row of kind "edge" has no bytes'),
        (changed(1, channels=None), r'rows\[1\]: a row of kind "code" needs channels'),
        (changed(1, offload_point=None), r'rows\[1\]: a row of kind "code" needs offload_point'),
        (changed(1, quality=9), r'rows\[1\]: a row of kind "code" has no quality'),
        (changed(3, quality=None), r'rows\[3\]: a row of kind "webp" needs quality'),
        (changed(3, spatial=True), r"rows\[3\]: spatial is true"),
        (changed(2, name="code-64"), "rows: two have the same name$"),
        (
            changed(0, kind="jpeg", bytes=5, quality=5),
            'rows: expected one of kind "edge", the gate alone$',
        ),
        (TABLE.as_json() | {"codec": None}, "codec: expected the id of the codec of the rows"),
        (TABLE.as_json() | {"codec": "0123"}, "codec is '0123', expected 16 hexadecimal digits"),
        (changed(3, kind="edge", bytes=0, quality=None), 'rows: expected one of kind "edge"'),
        (changed(3, bytes=16_001), 'rows: expected one of kind "webp" of at most 16,000 bytes, so'),
    ],
)
def test_a_wrong_table_is_refused_by_name(tmp_path: Path, document: object, message: str) -> None:
    path = tmp_path / "table.json"
    write_json(path, document)
    with pytest.raises(ConfigError, match=rf"table\.json: {message}"):
        read_table(path)


def test_a_small_picture_may_have_16_000_bytes_and_a_code_one() -> None:
    assert Table.of(changed(3, bytes=16_000)).rows[3].bytes == 16_000
    assert Table.of(changed(1, bytes=1)).rows[1].bytes == 1
    with pytest.raises(ValueError, match=r"so that codes are weighed against a small picture$"):
        Table.of(changed(3, bytes=16_001))


def test_only_a_table_with_codes_has_a_codec() -> None:
    without = TABLE.as_json() | {"rows": [TABLE.as_json()["rows"][i] for i in (0, 3)]}
    assert Table.of(without | {"codec": None}).codec is None
    with pytest.raises(ValueError, match=r'^codec: .* of the rows of kind "code"$'):
        Table.of(without)


def test_a_table_of_more_than_a_mebibyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    text = json.dumps(TABLE.as_json())
    path.write_text(text + " " * ((1 << 20) - len(text)), "utf-8")
    assert read_table(path) == TABLE
    path.write_text(text + " " * ((1 << 20) + 1 - len(text)), "utf-8")
    with pytest.raises(ConfigError, match="bytes"):
        read_table(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    text = json.dumps(TABLE.as_json())
    path.write_text(text.replace('"accuracy": 0.6', '"accuracy": 0.9, "accuracy": 0.6'), "utf-8")
    with pytest.raises(ConfigError, match=r"table\.json: is not JSON \(duplicate key\)"):
        read_table(path)


def test_a_missing_table_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is missing: eval\.offload writes it"):
        read_table(tmp_path / "table.json")
