"""The frames of a row, asked of servers that are stood in for."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import answer
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.types import Accident, Box, Size
from eval.answers import endpoint, local, model, rows, sizes
from eval.answers.asks import Answer, Ask, record
from eval.answers.endpoint import Outcome, Settings
from tests.eval.answers import test_sizes

SIZE = Size(640, 480)
URL = "http://127.0.0.1:1"
ROW = rows.Row("gpt", "gpt-5", "main", None, [URL], None, 3, 512, None)
NO_ACCIDENT = Answer('{"accidents": []}', 0.5, 100, 10)


def ask(name: str) -> Ask:
    return Ask(name, Path(f"{name}.jpg"), "system", "prompt", SIZE, SIZE)


def answered(name: str, answer: Answer = NO_ACCIDENT) -> dict[str, Any]:
    return record(ask(name), answer) | {"endpoint": URL}


COMPLIANT = answer.dump(answer.target([Accident(Box(10, 20, 639, 479, SIZE), "severe")]))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the servers were given; `outcomes` are what they answer."""
    seen = SimpleNamespace(outcomes=[], refused=frozenset())

    def servers(*given: Any) -> dict[str, Any]:
        seen.given = given
        return {
            URL: SimpleNamespace(left_out=seen.refused),
            "http://b": SimpleNamespace(left_out=()),
        }

    def answers(asks: list[Ask], asked: Any, at_once: int) -> list[Outcome]:
        assert list(asked) == [URL, "http://b"]
        seen.asked, seen.at_once = [one.id for one in asks], at_once
        return list(seen.outcomes)

    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setattr(endpoint, "servers", servers)
    monkeypatch.setattr(endpoint, "answers", answers)
    return seen


def test_a_row_goes_on_where_it_was_and_is_ordered_by_its_frames(
    served: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    earlier = [answered("c"), {"image_id": "d", "refused": "unsafe"}]
    path.write_text("".join(json.dumps(one) + "\n" for one in earlier) + '{"image_id": "a', "utf-8")
    served.refused = frozenset({"top_k", "seed"})
    served.outcomes = [
        Outcome(ask("e"), URL, None, "no answer"),
        Outcome(ask("b"), URL, None, "harmful", refused=True),
        Outcome(ask("a"), URL, NO_ACCIDENT),
    ]
    settings = Settings({"seed": 1}, {"prompt": 1.0, "completion": 10.0})
    found = rows.ask_endpoints(ROW, settings, [ask(name) for name in "abcde"], path)
    assert served.given == ([URL], "gpt-5", "key", {"max_tokens": 512, "seed": 1})
    assert (served.asked, served.at_once) == (["a", "b", "e"], 3)
    assert rows.kept_records(path) == [answered("a"), answered("c")]
    assert found.missing == {"d": "unsafe", "e": "no answer", "b": "harmful"}
    assert (found.answered, found.usd, found.endpoints) == (2, 0.0004, {URL: 2})
    assert found.left_out == {URL: ["seed", "top_k"]}
    assert capsys.readouterr().out.splitlines() == [
        "[gpt] 1 answers were there already",
        "[gpt] e: no answer",
        "[gpt] b: harmful",
    ]


def test_what_came_is_on_disk_when_a_run_ends_early(
    served: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(*_: Any) -> Any:
        yield Outcome(ask("b"), URL, None, "harmful", refused=True)
        assert rows.kept_records(path) == [{"image_id": "b", "refused": "harmful"}]
        yield Outcome(ask("a"), URL, NO_ACCIDENT)
        assert rows.kept_records(path)[1:] == [answered("a")]
        raise ConfigError("stopped")

    path = tmp_path / "rows.jsonl"
    monkeypatch.setattr(endpoint, "answers", answers)
    with pytest.raises(ConfigError, match="stopped"):
        rows.ask_endpoints(ROW, Settings(), [ask("a"), ask("b")], path)
    assert len(rows.kept_records(path)) == 2


def test_prompts_of_what_is_served_are_compared_kept_ones_too(
    served: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[Any] = []

    def comparison(base: str, revision: str) -> Any:
        compared.append((base, revision))
        return lambda one, tokens, url: compared.append((one.id, tokens, url))

    monkeypatch.setattr(sizes, "comparison", comparison)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(answered("b")) + "\n", "utf-8")
    served.outcomes = [Outcome(ask("a"), URL, NO_ACCIDENT._replace(prompt_tokens=101))]
    rows.ask_endpoints(replace(ROW, base="base"), Settings(), [ask("a"), ask("b")], path)
    assert compared == [("base", "main"), ("b", 100, URL), ("a", 101, URL)]


def test_a_constrained_row_demands_answers_that_hold_the_schema(
    served: SimpleNamespace, tmp_path: Path
) -> None:
    row = replace(ROW, constrained="schema")
    free = Answer("There is no accident.", 0.5, 100, 10)
    served.outcomes = [Outcome(ask("a"), URL, free._replace(text=COMPLIANT))]
    assert rows.ask_endpoints(row, Settings(), [ask("a")], tmp_path / "held.jsonl").answered == 1
    served.outcomes = [Outcome(ask("a"), URL, free._replace(cut=True))]  # its end is missing
    rows.ask_endpoints(row, Settings(), [ask("a")], tmp_path / "cut.jsonl")
    assert served.given[3] == {
        "max_tokens": 512,
        "response_format": endpoint.JSON_SCHEMA_FORMAT,
    }
    served.outcomes = [Outcome(ask("a"), URL, free)]
    with pytest.raises(ConfigError) as caught:
        rows.ask_endpoints(row, Settings(), [ask("a")], tmp_path / "free.jsonl")
    assert str(caught.value) == (
        f"{URL} ignores the schema that --constrained sends: its answer about a does not hold it. "
        "Ask without --constrained, or a server that constrains decoding (vLLM does)"
    )


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert rows.kept_records(path) == []
    path.write_text('{"image_id": "a"}\n{"id": "b"}\n', "utf-8")
    with pytest.raises(DataError) as caught:
        rows.kept_records(path)
    assert str(caught.value) == (
        f"{path}:2: is no answer of an earlier run: take the line out, and its frame is asked "
        "about again"
    )


def test_progress_is_printed_every_two_seconds(
    served: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = iter([0.0, 2.0, 2.5, 2.5, 4.5])  # begun at 0; a second look where a line is printed
    monkeypatch.setattr(rows, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    served.outcomes = [Outcome(ask(name), URL, NO_ACCIDENT) for name in "abc"]
    rows.ask_endpoints(ROW, Settings(), [ask(name) for name in "abc"], tmp_path / "rows.jsonl")
    assert capsys.readouterr().out.splitlines() == ["[gpt] 2/3 answers"]


ROW_HERE = rows.Row("tiny", "base", "main", Path("lora"), [], None, 2, 512, "rules")
WORDS = {"a": 1, "b": 5, "c": 3, "d": 2, "e": 4}
"""Of each frame's prompt."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """In place of a model in this process: what it was given, and what was on disk by then."""
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((84, 56, 3), np.uint8))  # 6 tokens
    asks = [
        Ask(name, tmp_path / "picture.png", "system", "word " * count, SIZE, SIZE)
        for name, count in WORDS.items()
    ]
    loaded = model.Loaded(test_sizes.model(), test_sizes.Processor())
    seen = SimpleNamespace(asks=asks, path=tmp_path / "rows.jsonl", given=[], on_disk=[])

    def generate(of: Any, batch: list[Ask], *given: Any) -> list[Answer]:
        assert of is loaded
        seen.given.append(([one.id for one in batch], *given))
        seen.on_disk.append([one["image_id"] for one in rows.kept_records(seen.path)])
        first = NO_ACCIDENT._replace(seconds=0.25)
        return [first, first._replace(seconds=9.0)][: len(batch)]

    monkeypatch.setattr(model, "load", lambda *given: seen.given.append(given) or loaded)
    monkeypatch.setattr(model, "demand_room", lambda *given: seen.given.append(given))
    monkeypatch.setattr(local, "generate", generate)
    monkeypatch.setattr(sizes, "free_memory", lambda: None)
    seen.loaded = loaded
    return seen


def test_a_model_here_goes_on_after_whole_batches_of_like_length(
    here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 99, 3))
    monkeypatch.setattr(rows, "time", SimpleNamespace(monotonic=clock.__next__))
    kept = {name: answered(name, NO_ACCIDENT) for name in "cbe"}
    here.path.write_text("".join(json.dumps(one) + "\n" for one in kept.values()) + "{", "utf-8")
    found = rows.ask_local(ROW_HERE, here.asks, here.path)
    assert here.given == [
        ("base", "main", Path("lora")),
        (here.loaded, here.asks, 512),
        (["c", "d"], 512, "rules"),  # of c and d only one was there
        (["a"], 512, "rules"),
    ]
    assert here.on_disk == [["b", "e"], ["b", "e", "c", "d"]]
    seconds = {"a": 0.25, "c": 0.25, "d": 9.0}
    assert rows.kept_records(here.path) == [
        kept[one.id]
        if one.id in "be"
        else record(one, NO_ACCIDENT._replace(seconds=seconds[one.id]))
        for one in here.asks
    ]
    assert (found.answered, found.prompt_tokens, found.missing, found.usd) == (5, 500, {}, None)
    assert found.generation_s == 0.5 + 0.25 + 0.25  # of each batch once
    assert capsys.readouterr().out.splitlines() == [
        "[tiny] keys and values of a batch: 0.06 GB at most",
        "[tiny] 2 answers were there already",
        "[tiny] 4/5 answers",
        "[tiny] 5/5 answers",
    ]


def test_a_batch_has_to_fit_the_card_at_the_length_of_its_longest_prompt(
    here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = 5 + 6 + 512
    for batch_size, together in ((2, 2), (9, 5)):
        needed = together * tokens * 57_344
        row = replace(ROW_HERE, batch_size=batch_size)
        monkeypatch.setattr(sizes, "free_memory", lambda free=needed: free)
        rows.ask_local(row, here.asks, here.path)
        monkeypatch.setattr(sizes, "free_memory", lambda free=needed - 1: free)
        with pytest.raises(ConfigError, match=f"^the keys and values of {together} x 523 tokens"):
            rows.ask_local(row, here.asks, here.path)
