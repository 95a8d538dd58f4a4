"""Settings of an endpoint, and what a defect in a thread does; rows: test_predict.py."""

import math
import random
from pathlib import Path

import pytest

from dat_runtime.chat import Reply
from dat_runtime.edge.assess import EndpointAssessor
from dat_runtime.errors import ConfigError
from dat_runtime.types import Size
from eval.answers.asks import Ask
from eval.answers.endpoint import TIMEOUT_S, TRIES, answers, read_settings, servers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not YAML"),
        ("prices: {}", "unknown key 'prices', expected request, usd_per_million_tokens"),
        ("- 1", "is not an object with the keys request, usd_per_million_tokens"),
        ("request: 3", "request is 3, expected a table"),
        ("usd_per_million_tokens: {prompt: 1}", "usd_per_million_tokens: completion is missing"),
        ("usd_per_million_tokens: {prompt: 1, completion: .nan}", "completion is nan, expected"),
        ("usd_per_million_tokens: {prompt: free, completion: 1}", "prompt is 'free', expected"),
        ("usd_per_million_tokens: {prompt: 1, completion: 1000000}", "expected a price below"),
    ],
)
def test_faulty_settings_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_settings(path)


def test_a_defect_in_a_thread_ends_the_run(tmp_path: Path) -> None:
    class Broken:
        def ask(self, png: bytes, system: str, prompt: str) -> Reply:
            raise ZeroDivisionError

    (tmp_path / "f.png").write_bytes(b"")
    ask = Ask("f", tmp_path / "f.png", "s", "p", Size(1, 1), Size(1, 1))
    with pytest.raises(ZeroDivisionError):
        list(answers([ask], {"broken": Broken()}, 2))


@pytest.mark.parametrize("luck", [0.5, 1.0])
def test_a_limit_of_requests_that_lasts_75_seconds_is_outlasted(
    luck: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by `Retry-After` or not; and no question waits longer than its whole time."""
    monkeypatch.setattr(random, "uniform", lambda low, high: luck)
    (server,) = servers(["http://127.0.0.1:9/v1"], "m", None, {}).values()
    assert isinstance(server, EndpointAssessor)
    pauses = [server._pause_after(attempt, None) for attempt in range(TRIES - 1)]
    assert 75 < sum(pauses) < TIMEOUT_S
    assert 75 <= server._pause_after(0, 75.0) < 76
    assert server._pause_after(TRIES - 1, 75.0) == math.inf
