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


def line(prompt: int | None, completion: int | None, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def test_the_sums_leave_out_what_no_server_counted() -> None:
    lines = [
        line(1000, 10, endpoint="http://b"),
        line(200, 5, endpoint="http://a", cut=True),
        line(None, 7, endpoint="http://b"),
        line(9, None),
    ]
    prices = {"prompt": 2.5, "completion": 40.0}
    found = usage.of(lines, {"cam_1": "gone"}, prices, 0.123456, {"http://a": ["seed"]})
    assert found == usage.Usage(
        answered=4,
        missing={"cam_1": "gone"},
        prompt_tokens=1200,
        completion_tokens=15,
        uncounted=2,
        usd=0.0036,
        generation_s=0.1235,
        endpoints={"http://a": 1, "http://b": 2},
        cut=1,
        left_out={"http://a": ["seed"]},
    )
    assert list(found.endpoints) == ["http://a", "http://b"]
    small = usage.of(lines[1:2], {}, {"prompt": 0.01, "completion": 0.06})
    assert (small.usd, small.generation_s, small.left_out) == (2e-6, None, {})  # 2.3 millionths
    assert usage.of(lines, {}, {}).usd is None


def test_shards_together_are_their_sums() -> None:
    first = usage.Usage(1, {"a": "x"}, 10, 2, 1, 0.5, 3.0, {"http://b": 1}, 1, {"http://b": ["n"]})
    second = usage.Usage(4, {"b": "y"}, 7, 5, 2, 0.25, 1.5, {"http://a": 2, "http://b": 2}, 2)
    found = usage.merged([first, second])
    left_out = {"http://b": ["n"]}
    ends = {"http://a": 2, "http://b": 3}
    both = {"a": "x", "b": "y"}
    assert found == usage.Usage(5, both, 17, 7, 3, 0.75, 4.5, ends, 3, left_out)
    assert list(found.endpoints) == ["http://a", "http://b"]
    unknown = usage.merged([first, usage.of([], {}, {})])
    assert (unknown.usd, unknown.generation_s) == (None, None)


def test_the_summary_says_what_is_missing_and_what_it_took() -> None:
    whole = usage.Usage(
        3, {"a": "x", "b": "y"}, 620, 180, 1, 0.01234, None, {}, 2, {"http://a": ["seed", "top_k"]}
    )
    assert usage.summary(whole) == [
        "2 of 5 frames got no answer; they count as failed (--ask-missing asks again)",
        "2 answers were cut at the limit of tokens (--max-new-tokens raises it)",
        "http://a refuses seed, top_k: asked without",
        "620 prompt and 180 completion tokens (1 answers uncounted), 0.0123 USD",
    ]
    plain = usage.Usage(3, {}, 620, 180, 0, None, None, {})
    assert usage.summary(plain) == ["620 prompt and 180 completion tokens"]
