import json
from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from dat_runtime.federation.round import demand_start, read_round, start_digest
from tests.dat_runtime.federation.fleet import make_fleet
from train import round as command


def test_a_round_states_its_start_and_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = make_fleet(tmp_path, 1)
    out = tmp_path / "rounds" / "3.json"
    run = ["--start", str(fleet.start.folder), "--number", "3", "--out", str(out)]
    assert command.main(run) == 0
    opened = read_round(out)
    assert (opened.round, opened.base, opened.rank, opened.modules) == (3, "base", 3, 2)
    assert opened.start == start_digest(fleet.start.folder)
    demand_start(opened, fleet.start, out)
    assert command.main(run) == 1
    assert "is there: increments may be under way for it" in capsys.readouterr().err
    run[-1] = str(tmp_path / "again.json")
    assert command.main(run) == 0
    assert read_round(tmp_path / "again.json").nonce != opened.nonce


def test_rounds_count_from_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--start", str(tmp_path), "--number", "0", "--out", str(tmp_path / "r.json")]
    assert command.main(run) == 1
    assert "--number 0: rounds count from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("round", 0, "round is 0, expected a whole number from 1"),
        ("nonce", "xyz", "nonce is 'xyz', expected 32 hexadecimal digits"),
        ("scale", 0, "scale is 0, expected a number above 0"),
        ("more", 1, "unknown key 'more'"),
    ],
)
def test_a_file_that_is_no_round_is_refused(
    tmp_path: Path, field: str, value: object, reason: str
) -> None:
    fleet = make_fleet(tmp_path, 1)
    path = tmp_path / "round.json"
    path.write_text(json.dumps(vars(fleet.opened) | {field: value}))
    with pytest.raises(DataError, match=reason):
        read_round(path)
