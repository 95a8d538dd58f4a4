"""The one place that reads and writes JSON, JSON lines and YAML: whole, and with errors by name."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime import files
from dat_runtime.errors import ConfigError, DataError, DatError, ModelError
from dat_runtime.files import (
    read_bytes,
    read_json,
    read_json_lines,
    read_text,
    read_yaml,
    write_atomically,
    write_json,
    write_json_lines,
    write_yaml,
)

READERS = [read_bytes, read_text, read_json, read_yaml]
VALUE = {"b": [1, 2.5, None, True], "a": "é \u2028 \x85", "c": {}}


def holding(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("error", [DataError, ConfigError, ModelError])
def test_a_file_that_cannot_be_read_is_named_by_an_error_of_the_callers_kind(
    tmp_path: Path, read: Callable[..., Any], error: type[DatError]
) -> None:
    with pytest.raises(error) as refusal:
        read(tmp_path / "none", error)
    words = "cannot be read (No such file or directory)"
    assert str(refusal.value) == f"{tmp_path / 'none'}: {words}"
    with pytest.raises(error, match="cannot be read"):
        read(tmp_path, error)  # a folder
    with pytest.raises(error, match="cannot be read"):
        read(holding(tmp_path, "x") / "below a file", error)


def test_what_to_do_about_a_missing_or_a_broken_file_is_said(tmp_path: Path) -> None:
    for read in (read_bytes, read_text, read_json):
        with pytest.raises(DataError) as refusal:
            read(tmp_path / "none", missing="run make data")
        assert str(refusal.value) == f"{tmp_path / 'none'}: is missing: run make data"
    with pytest.raises(DataError, match=r"file: is not JSON \(.*\): make it again$"):
        read_json(holding(tmp_path, "{"), broken="make it again")
    with pytest.raises(DataError, match=r"file:1: is not UTF-8: make it again$"):
        read_json(holding(tmp_path, b"\xff"), broken="make it again")


@pytest.mark.parametrize("read", [read_bytes, read_text, read_json])
def test_a_file_over_the_limit_is_refused_and_one_at_it_is_read(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    path = holding(tmp_path, '"12345678"')
    read(path, most_bytes=10)
    with pytest.raises(ModelError, match="file: larger than 9 bytes"):
        read(path, ModelError, most_bytes=9)


@pytest.mark.parametrize("read", [read_text, read_json, read_yaml])
def test_bytes_that_are_no_utf_8_are_named_by_their_line(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    path = holding(tmp_path, b'"a"\n\n"\xff"')
    with pytest.raises(DatError) as refusal:
        read(path)
    assert str(refusal.value) == f"{path}:3: is not UTF-8"


@pytest.mark.parametrize("text", ["", "{", "[1] 2", "'a'", "[" * 100_000, "\ufeff1"])
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_not_json_is_named(tmp_path: Path, text: str, strict: bool) -> None:
    path = holding(tmp_path, text)
    with pytest.raises(ConfigError, match="is not JSON") as refusal:
        read_json(path, ConfigError, strict=strict)
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '{"b": {"a": 1, "\\u0061": 2}}', "NaN", "[-Infinity]", "1e999"]
)
def test_only_strict_reading_refuses_what_json_itself_does_not_know(
    tmp_path: Path, text: str
) -> None:
    path = holding(tmp_path, text)
    read_json(path)
    with pytest.raises(DataError, match="is not JSON"):
        read_json(path, strict=True)
    with pytest.raises(ValueError, match=r"duplicate key|is not JSON|out of range"):
        files.parse(text)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "- 2026-02-31", "&a [*b]", "!!python/name:a"])
def test_what_is_not_yaml_or_would_run_something_is_named(tmp_path: Path, text: str) -> None:
    path = holding(tmp_path, text)
    with pytest.raises(ConfigError, match="is not YAML") as refusal:
        read_yaml(path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_json_lines_come_with_their_numbers(tmp_path: Path) -> None:
    path = holding(tmp_path, '{"a": 1}\n {"a": "\u2028\x85"} \r\n{"a": NaN}')
    (first, one), (second, other), (third, last) = read_json_lines(path)
    assert (first, second, third) == (1, 2, 3)
    assert (one, other) == ({"a": 1}, {"a": "\u2028\x85"})
    assert math.isnan(last["a"])
    assert list(read_json_lines(holding(tmp_path, "{}\n"))) == [(1, {})]
    assert list(read_json_lines(holding(tmp_path, ""))) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("{} {}", "is not JSON"),
        ("{},", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("null", "is not a JSON object"),
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, words: str) -> None:
    path = holding(tmp_path, f"{{}}\n{line}\n{{}}\n")
    with pytest.raises(DataError, match=words) as refusal:
        list(read_json_lines(path))
    assert str(refusal.value).startswith(f"{path}:2: ")


PIECES = st.sampled_from([*'{}[]:," \t1a', "\r", "\ufeff", "null", "NaN", '"a":', '{"a": 1}'])


def outcome(read: Callable[[str], Any], text: str) -> str:
    """What reading a text gives, or why it fails."""
    try:
        return json.dumps(read(text))
    except ValueError as refusal:
        return str(refusal)


@given(st.lists(PIECES, max_size=6).map("".join))
def test_a_line_is_read_as_json_loads_reads_it(line: str) -> None:
    assert outcome(files._value, line) == outcome(json.loads, line)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_json(path, VALUE)
    assert read_json(path, strict=True) == VALUE
    assert list(read_json(path)) == ["b", "a", "c"]
    write_json(path, VALUE, sort_keys=True)
    assert list(read_json(path)) == ["a", "b", "c"]
    write_yaml(path, VALUE)
    assert read_yaml(path) == VALUE
    assert list(read_yaml(path)) == ["b", "a", "c"]
    write_json_lines(path, [VALUE, {}])
    assert [record for _, record in read_json_lines(path)] == [VALUE, {}]


def test_the_layout_of_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_json(path, {"b": [1], "a": 2})
    assert path.read_text() == '{\n "b": [\n  1\n ],\n "a": 2\n}\n'
    write_json_lines(path, ({"n": n} for n in (1, 2)))
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n'
    write_yaml(path, {"b": [1], "a": 2})
    assert path.read_text() == "b:\n- 1\na: 2\n"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_atomically(path, 3),
        lambda path: write_atomically(path, "\ud800"),
        lambda path: write_json(path, {"a": object()}),
        lambda path: write_json_lines(path, [{}, {"a": object()}]),
    ],
)
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = holding(tmp_path, "old")
    with pytest.raises((TypeError, UnicodeEncodeError)):
        write(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_open_keeps_the_content_that_its_reader_began_with(tmp_path: Path) -> None:
    path = holding(tmp_path, "old")
    with path.open() as reader:
        write_atomically(path, b"new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_might_never_end_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError) as refusal:
        read_bytes(tmp_path / "pipe", ModelError)
    assert str(refusal.value) == (
        f"{tmp_path / 'pipe'}: is not a plain file, and might never end: write its content into one"
    )


def test_a_file_in_a_folder_that_may_not_be_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:  # as the system does, but for root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(ConfigError) as refusal:
        read_bytes(tmp_path / "tokens", ConfigError)
    assert str(refusal.value) == f"{tmp_path / 'tokens'}: cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("content", "line"), [(b"\n\xff", 2), (b"\xff\n\n", 1), (b"a\nb\xff\n\xff", 2)]
)
def test_the_line_of_bytes_that_are_no_text_is_counted_from_the_start(
    tmp_path: Path, content: bytes, line: int
) -> None:
    with pytest.raises(DataError, match=f"file:{line}: is not UTF-8$"):
        read_text(holding(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 1}', "duplicate key"),
        ("1" * 25 + "e400", f"number out of range: {'1' * 20}"),
        ("[NaN]", "NaN is not JSON"),
    ],
)
def test_strict_reading_says_what_it_refuses(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        files.parse(text)
    with pytest.raises(DataError) as refusal:
        read_json(holding(tmp_path, text), strict=True)
    assert str(refusal.value) == f"{tmp_path / 'file'}: is not JSON ({words})"


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        list(read_json_lines(holding(tmp_path, "{}\n[]\n")))
    assert str(refusal.value) == f"{tmp_path / 'file'}:2: is not a JSON object"


def test_the_names_in_a_folder_are_made_durable_and_nothing_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/dev/fd")
    files.sync_folder(tmp_path)
    assert os.listdir("/dev/fd") == before
    with pytest.raises(FileNotFoundError):
        files.sync_folder(tmp_path / "none")
