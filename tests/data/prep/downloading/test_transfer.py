"""Waiting, limits and words of a transfer, with a service that is left out."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.errors import ConfigError, DataError
from data.prep.downloading import transfer
from data.prep.downloading.transfer import Service, fetch_archive

URL = "https://example.org/sets/a?key=SECRET"


def refusal(kind: type[Exception], work: Any, *given: Any) -> str:
    with pytest.raises(kind) as refused:
        work(*given)
    assert "SECRET" not in str(refused.value)
    return str(refused.value)


def test_pauses_double_up_to_the_longest_and_the_last_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return 1.0

    monkeypatch.setattr(random, "uniform", uniform)
    pauses: list[float] = []

    def busy() -> None:
        raise transfer._Again(f"busy {len(pauses)}")

    attempts = transfer._ATTEMPTS
    told = refusal(DataError, transfer._retried, busy, pauses.append)
    assert told == f"gave up after {attempts} attempts: busy {attempts - 1}"
    assert pauses == [min(transfer._LONGEST_PAUSE, 2.0**n) for n in range(1, attempts)]
    assert set(bounds) == {(0.5, 1.0)}
    assert capsys.readouterr().out.splitlines()[:2] == [
        "[download] busy 0; again in 2 s",
        "[download] busy 1; again in 4 s",
    ]


def answer(status: int) -> Any:
    return SimpleNamespace(status_code=status)


@pytest.mark.parametrize("status", [200, 202, 206])
def test_success_is_let_pass(status: int) -> None:
    transfer._demand_success(answer(status), URL)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int) -> None:
    told = refusal(transfer._Again, transfer._demand_success, answer(status), URL)
    assert told == f"example.org answers {status}"


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told_without_the_key(status: int) -> None:
    assert refusal(ConfigError, transfer._demand_success, answer(status), URL) == (
        f"https://example.org/sets/a: {status}, the credentials are not accepted, or the set's "
        "terms are not accepted yet: open its page once"
    )


@pytest.mark.parametrize(
    ("status", "told"), [(404, "404, no such set"), (418, "the answer is 418"), (301, "is 301")]
)
def test_any_other_answer_is_an_error(status: int, told: str) -> None:
    words = refusal(DataError, transfer._demand_success, answer(status), URL)
    assert words.startswith("https://example.org/sets/a: ")
    assert words.endswith(told)


def test_a_complete_folder_is_not_fetched_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    service = Service("https://example.org")
    assert fetch_archive(URL, service, tmp_path, lambda seconds: None) == tmp_path
    assert capsys.readouterr().out == f"[download] there already: {tmp_path}\n"


def chunks(*sizes: int) -> Any:
    return SimpleNamespace(iter_raw=lambda: (bytes(size) for size in sizes))


def test_bytes_are_appended_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "a.zip.partial"
    transfer._write(chunks(3, 4), partial, 0, 7)
    transfer._write(chunks(3), partial, 7, 10)
    assert partial.stat().st_size == 10
    transfer._write(chunks(2), partial, 0, 0)  # from the beginning, of unknown length
    assert partial.stat().st_size == 2
    with pytest.raises(transfer._Again, match=r"^cut off after 1,000 of 2,000 bytes$"):
        transfer._write(chunks(1000), partial, 0, 2000)
    assert capsys.readouterr().out == ""
    clock = iter([0.0, 1e9, 1e9, 1e9, 0.0, 1e9, 1e9])
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    transfer._write(chunks(2_000_000, 1_000_000), partial, 0, 3_000_000)
    assert capsys.readouterr().out.splitlines() == ["[download] a.zip: 2 of 3 MB"]
    transfer._write(chunks(1_000_000), partial, 0, 0)
    assert capsys.readouterr().out.splitlines() == ["[download] a.zip: 1 MB"]


def test_more_bytes_than_any_set_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 1000)
    partial = tmp_path / "a.zip.partial"
    transfer._write(chunks(400, 600), partial, 0, 0)
    told = refusal(DataError, transfer._write, chunks(400, 601), partial, 0, 0)
    assert told == f"{partial}: over 1,000 bytes"
    assert partial.stat().st_size == 400
