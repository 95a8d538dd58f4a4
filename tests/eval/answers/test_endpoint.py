"""Settings of an endpoint, and what a defect in a thread does; rows: test_predict.py."""

from pathlib import Path

import pytest

from dat_runtime.edge.assess import Reply
from dat_runtime.errors import ConfigError
from dat_runtime.types import Size
from eval.answers.asks import Ask
from eval.answers.endpoint import answers, read_settings


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
