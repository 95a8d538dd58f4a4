from pathlib import Path

import pytest

from dat_runtime import batch as batch_module
from dat_runtime.batch import read_batch
from dat_runtime.errors import DataError
from dat_runtime.schedule import PendingEvent

GOOD = '{"id": "a", "priority": 0.5, "json_bytes": 400, "roi_bytes": 9000, "box_bytes": 40000}'


def batch(folder: Path, *lines: str) -> Path:
    path = folder / "events.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_events_are_read_in_order_and_may_leave_out_what_they_lack(tmp_path: Path) -> None:
    short = '{"id": "b", "priority": 1, "json_bytes": 0, "captured_at": -2.5, "json_sent": true}'
    weak = GOOD.replace('"a"', '"c"').replace("}", ', "code_bytes": 4256}')
    assert read_batch(batch(tmp_path, GOOD, "", short, weak)) == [
        PendingEvent("a", 0.5, 400, 9000, 40000),
        PendingEvent("b", 1, 0, None, None, -2.5, True),
        PendingEvent("c", 0.5, 400, 9000, 40000, code_bytes=4256),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting"),
        ("[]", "not an object with the keys id, priority"),
        ('{"id": "b", "priority": 1}', "json_bytes is missing"),
        (GOOD.replace("a", "a", 1).replace("roi_bytes", "roi"), "unknown key 'roi'"),
        (GOOD.replace('"a"', '""'), "id is ''"),
        (GOOD.replace('"a"', '"\\ud800"'), "in UTF-8"),
        (GOOD.replace("0.5", "-0.5"), "priority is -0.5"),
        (GOOD.replace("0.5", "NaN"), "NaN is not JSON"),
        (GOOD.replace("0.5", "1e999"), "number out of range"),
        (GOOD.replace("0.5", "true"), "priority is True"),
        (GOOD.replace("400,", "400.5,"), "json_bytes is 400.5"),
        (GOOD.replace("9000", "-1"), "roi_bytes is -1"),
        (GOOD.replace("}", ', "code_bytes": -1}'), "code_bytes is -1"),
        (GOOD.replace("40000", '"40000"'), "box_bytes is '40000'"),
        (GOOD[:-1] + ', "json_sent": 1}', "json_sent is 1"),
        (GOOD[:-1] + ', "id": "b"}', "duplicate key"),
        (GOOD, "id 'a' was there before"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(
    tmp_path: Path, line: str, words: str
) -> None:
    path = batch(tmp_path, GOOD, "", line)
    with pytest.raises(DataError, match=words) as refusal:
        read_batch(path)
    assert str(refusal.value).startswith(f"{path}:3: ")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_batch(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_batch(tmp_path / "latin.jsonl")


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "MAX_BATCH_BYTES", len(GOOD) + 1)
    assert len(read_batch(batch(tmp_path, GOOD))) == 1
    with pytest.raises(DataError, match=rf"larger than {len(GOOD) + 1} bytes"):
        read_batch(batch(tmp_path, GOOD, ""))
