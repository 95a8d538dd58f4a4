"""usage.json: read as it was written, and refused where it is not what `write` writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError
from eval.answers import usage

WHOLE = usage.Usage(
    answered=3,
    missing={"cam_1": "ConnectError"},
    prompt_tokens=620,
    completion_tokens=180,
    uncounted=1,
    usd=None,
    generation_s=0.25,
    endpoints={"http://127.0.0.1:1": 3},
    cut=1,
)


def test_usage_is_read_as_it_was_written(tmp_path: Path) -> None:
    usage.write(tmp_path, WHOLE)
    assert usage.read(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("missing", ""),
        ("missing", []),
        ("endpoints", None),
        ("answered", -1),
        ("answered", True),
        ("prompt_tokens", 1.5),
        ("usd", "1"),
        ("generation_s", -0.5),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_with_the_file(
    tmp_path: Path, key: str, value: Any
) -> None:
    usage.write(tmp_path, WHOLE)
    path = tmp_path / usage.FILE
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | {key: value}), "utf-8")
    with pytest.raises(DataError) as caught:
        usage.read(tmp_path)
    assert str(caught.value).startswith(f"{path}: is not a usage file ({key} is ")


def test_usage_of_before_cuts_were_counted_is_read(tmp_path: Path) -> None:
    usage.write(tmp_path, WHOLE)
    path = tmp_path / usage.FILE
    content = json.loads(path.read_text("utf-8"))
    del content["cut"]
    path.write_text(json.dumps(content), "utf-8")
    assert usage.read(tmp_path).cut == 0


def test_a_missing_and_an_unknown_key_are_named(tmp_path: Path) -> None:
    path = tmp_path / usage.FILE
    path.write_text("{}", "utf-8")
    with pytest.raises(DataError, match="answered is missing"):
        usage.read(tmp_path)
    usage.write(tmp_path, WHOLE)
    path.write_text(path.read_text("utf-8").replace("usd", "eur"), "utf-8")
    with pytest.raises(DataError, match="unknown key 'eur'"):
        usage.read(tmp_path)
