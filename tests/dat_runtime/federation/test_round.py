"""What a round is of, and which adapter starts it."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.errors import DataError
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.round import (
    Round,
    demand_start,
    hexadecimal,
    open_round,
    read_round,
    start_digest,
)
from tests.dat_runtime.federation.fleet import random_factors, write_adapter

ROUND = Round(3, "0123456789abcdef" * 2, "base", "main", "f" * 64, 8, 2.0, 14)


def test_hexadecimal_digits_are_small_and_so_many() -> None:
    rule = hexadecimal(4)
    assert rule.expected == "4 hexadecimal digits"
    assert rule.holds("09af")
    for wrong in ("09a", "09aff", "09aF", "09ag", "", 1234, None, ["0", "9", "a", "f"]):
        assert not rule.holds(wrong), wrong


def test_a_round_is_of_its_start_and_has_a_nonce_that_no_other_has(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", random_factors(np.random.default_rng(0)))
    start = read_start(folder)
    files = ("adapter_model.safetensors", "adapter_config.json")
    digests = [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files]
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    assert start_digest(folder) == digest
    assert open_round(7, start, "n") == Round(7, "n", "base", "a" * 64, digest, 3, 2.0, 2)
    nonces = {open_round(7, start).nonce for _ in range(3)}
    assert len(nonces) == 3
    assert all(hexadecimal(32).holds(nonce) for nonce in nonces)


def test_the_fields_in_which_rounds_differ_are_told_in_their_order() -> None:
    assert ROUND.differences(ROUND) == []
    assert ROUND.differences(replace(ROUND, scale=1.0, base="other")) == [
        "base is 'other', expected 'base'",
        "scale is 1.0, expected 2.0",
    ]


def test_an_adapter_that_the_round_does_not_start_from_is_refused(tmp_path: Path) -> None:
    start = read_start(write_adapter(tmp_path / "a", random_factors(np.random.default_rng(0))))
    opened = open_round(7, start)
    path = tmp_path / "round.json"
    demand_start(opened, start, path)
    other = replace(opened, rank=4, modules=3)
    words = f"{start.folder}: round 7 of {path} starts from another adapter: rank is 3, expected 4"
    with pytest.raises(DataError, match=f"^{re.escape(words)}$"):
        demand_start(other, start, path)


def write(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(vars(ROUND) | changes))
    return path


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("round", 0, "round is 0, expected a whole number from 1 to 2,147,483,648"),
        ("round", (1 << 31) + 1, "round is 2147483649, expected a whole number from 1 to"),
        ("nonce", "0" * 31, f"nonce is '{'0' * 31}', expected 32 hexadecimal digits"),
        ("base", "", "base is '', expected a text that is not empty"),
        ("revision", "", "revision is '', expected a text that is not empty"),
        ("start", "f", "start is 'f', expected 64 hexadecimal digits"),
        ("rank", 0, "rank is 0, expected a whole number from 1"),
        ("scale", 0, "scale is 0, expected a number above 0"),
        ("modules", 0, "modules is 0, expected a whole number from 1"),
        ("more", 1, "unknown key 'more', expected round, nonce"),
        ("base", "x" * 16_384, "larger than 16,384 bytes"),
    ],
)
def test_a_file_that_is_no_round_is_refused(
    tmp_path: Path, field: str, value: object, reason: str
) -> None:
    path = write(tmp_path / "round.json")
    assert read_round(path) == ROUND
    write(path, **{field: value})
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {reason}')}"):
        read_round(path)


def test_a_round_that_is_missing_or_says_a_thing_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "round.json"
    with pytest.raises(DataError, match=rf"^{path}: is missing: train\.round makes it$"):
        read_round(path)
    write(path).write_text('{"round": 3, ' + path.read_text()[1:])
    with pytest.raises(DataError, match=r"duplicate key"):
        read_round(path)
