"""Rows of answers from OpenAI-compatible servers: real HTTP servers on the loopback."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime.manifest import verify
from dat_runtime.stage import Stage
from eval import merge, predict, tables
from eval.answers import endpoint, usage

FRAMES = 12
ANSWER = json.dumps(
    {
        "count": 1,
        "severity": "severe",
        "level": 1,
        "score": 0.8,
        "accidents": [{"bbox": [28, 28, 56, 84], "severity": "severe"}],
        "summary": "",
    }
)
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
REFUSED = (400, {"error": "content filter"})


def frame_of(body: dict[str, Any]) -> str:
    """The frame that a request is about: its picture names it."""
    url = body["messages"][1]["content"][0]["image_url"]["url"]
    return base64.b64decode(url.partition(",")[2]).decode()


class Replica:
    """A server that answers as `reply(frame, number of the request)` says."""

    def __init__(self, reply: Callable[[str, int], tuple[int, Any] | None], pause: float = 0):
        self.requests: list[dict[str, Any]] = []
        replica = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                replica.requests.append(body)
                time.sleep(pause)
                answer = reply(frame_of(body), len(replica.requests))
                status, content = answer or (
                    200,
                    {"choices": [{"message": {"content": ANSWER}}], "usage": USAGE},
                )
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def asked(self) -> list[str]:
        return [frame_of(body) for body in self.requests]


@pytest.fixture
def replica() -> Iterator[Callable[..., Replica]]:
    running = []

    def start(
        reply: Callable[[str, int], tuple[int, Any] | None] = lambda *_: None, pause: float = 0
    ) -> Replica:
        running.append(Replica(reply, pause))
        return running[-1]

    yield start
    for one in running:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def instructions(tmp_path: Path) -> Path:
    """Twelve frames of 640 x 640 that the model sees at 112 x 112; a picture's bytes name it."""
    out = tmp_path / "instructions"
    truth = []
    with Stage(out, kind="instructions", inputs={}, config={}) as folder:
        samples = []
        for i in range(FRAMES):
            (folder / f"f{i}.png").write_bytes(f"f{i}".encode())
            samples.append(
                {
                    "image_id": f"f{i}",
                    "system": "system",
                    "messages": [{"content": "<image>Image 112 x 112."}],
                    "images": [f"f{i}.png"],
                    "frame": [112, 112],
                    "original": [640, 640],
                }
            )
            accidents = [{"bbox": [160, 160, 320, 480], "severity": "severe"}]
            size = {"width": 640, "height": 640, "accidents": accidents}
            truth.append({"image_id": f"f{i}", "image": "", **size})
        (folder / "boxed_test.json").write_text(json.dumps(samples))
        (folder / "truth.jsonl").write_text("".join(json.dumps(t) + "\n" for t in truth))
    return out


class Asking:
    """`python -m eval.predict` about the twelve frames."""

    def __init__(self, instructions: Path):
        self.instructions = instructions
        self.out = instructions.parent / "predictions" / "gpt-5"

    def __call__(self, *servers: str, out: Path | None = None, more: tuple[str, ...] = ()) -> int:
        urls = [word for url in servers for word in ("--endpoint", url)]
        return predict.main([
            *("--instructions", str(self.instructions), "--inputs", "boxed", "--model", "gpt-5"),
            *("--out", str(out or self.out), "--batch-size", "4", *urls, *more),
        ])  # fmt: skip

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = (self.out / "predictions.jsonl").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @property
    def usage(self) -> dict[str, Any]:
        return asdict(usage.read(self.out))


@pytest.fixture
def asking(instructions: Path) -> Asking:
    return Asking(instructions)


def test_answers_come_in_the_order_of_the_frames_in_original_pixels(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    assert asking(replica().url) == 0
    assert [line["image_id"] for line in asking.lines] == [f"f{i}" for i in range(FRAMES)]
    line = asking.lines[0]
    assert json.loads(line["text"])["accidents"][0]["bbox"] == [160, 160, 320, 480]
    assert line["model_text"] == ANSWER
    assert (line["prompt_tokens"], line["completion_tokens"]) == (100, 50)
    verify(asking.out, "predictions")


@pytest.mark.slow
def test_replicas_share_the_frames_and_the_faster_does_more(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    slow, fast = replica(pause=2), replica()
    assert asking(slow.url, fast.url) == 0
    assert sorted(fast.asked + slow.asked) == sorted(f"f{i}" for i in range(FRAMES))
    assert len(fast.asked) > len(slow.asked) > 0
    assert asking.usage["endpoints"] == {fast.url: len(fast.asked), slow.url: len(slow.asked)}


def test_what_one_replica_refuses_goes_to_the_other(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    broken, whole = replica(lambda *_: REFUSED), replica(pause=0.02)
    assert asking(broken.url, whole.url) == 0
    assert len(asking.lines) == FRAMES
    assert asking.usage["missing"] == {}
    assert broken.requests


def test_a_dead_replica_is_left_and_the_frames_are_answered(
    asking: Asking, replica: Callable[..., Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "TRIES", 1)
    whole = replica()
    assert asking("http://127.0.0.1:1/v1", whole.url) == 0
    assert len(asking.lines) == FRAMES


def test_tokens_and_cost_are_added_up(
    asking: Asking, replica: Callable[..., Replica], tmp_path: Path
) -> None:
    prices = {"prompt": 2, "completion": 10}
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"usd_per_million_tokens": prices}))
    asking(replica().url, more=("--settings", str(settings)))
    assert asking.usage["prompt_tokens"] == 100 * FRAMES
    assert asking.usage["usd"] == pytest.approx(FRAMES * (100 * 2 + 50 * 10) / 1e6)


def test_an_answer_without_token_counts_is_said_to_be_uncounted(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    bare = (200, {"choices": [{"message": {"content": ANSWER}}]})
    asking(replica(lambda frame, _: bare if frame == "f1" else None).url)
    assert asking.usage["uncounted"] == 1
    assert "(1 answers uncounted)" in capsys.readouterr().out


def test_missing_answers_are_counted_and_a_second_run_does_not_ask_again(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    server = replica(lambda frame, _: REFUSED if frame in ("f3", "f7") else None)
    assert asking(server.url) == 0
    assert "2 of 12 frames got no answer; they count as failed" in capsys.readouterr().out
    assert set(asking.usage["missing"]) == {"f3", "f7"}
    assert "content filter" in asking.usage["missing"]["f3"]
    asked = len(server.requests)
    assert asking(server.url) == 0
    assert len(server.requests) == asked


def test_missing_answers_alone_are_asked_again_when_told_so(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    server = replica(lambda frame, n: REFUSED if frame in ("f3", "f7") and n <= FRAMES else None)
    asking(server.url)
    assert asking(server.url, more=("--ask-missing",)) == 0
    assert sorted(server.asked[FRAMES:]) == ["f3", "f7"]
    assert [line["image_id"] for line in asking.lines] == [f"f{i}" for i in range(FRAMES)]
    assert asking.usage["missing"] == {}
    verify(asking.out, "predictions")
    assert asking(server.url, more=("--ask-missing",)) == 0
    assert len(server.requests) == FRAMES + 2


def test_answers_to_another_question_replace_none_unless_told_so(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    server = replica()
    assert asking(server.url) == 0
    before = (asking.out / "predictions.jsonl").read_bytes()
    assert asking(server.url, more=("--max-new-tokens", "300")) == 1
    assert "max_new_tokens: 256 → 300. --restart" in capsys.readouterr().err
    assert (asking.out / "predictions.jsonl").read_bytes() == before
    assert len(server.requests) == FRAMES
    assert asking(server.url, more=("--max-new-tokens", "300", "--restart")) == 0
    assert len(server.requests) == 2 * FRAMES


def test_an_outage_stops_the_run_and_a_new_start_does_not_ask_twice(
    asking: Asking,
    replica: Callable[..., Replica],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(endpoint, "GIVE_UP", 3)
    server = replica(lambda _, n: (401, "no credit") if 5 < n <= 12 else None)
    assert asking(server.url, more=("--batch-size", "1")) == 1
    assert "no endpoint answers any more" in capsys.readouterr().err
    assert not asking.out.exists()
    before = server.asked[:5]
    assert asking(replica().url) == 0, "at another address"
    assert "5 answers were there already" in capsys.readouterr().out
    assert len(asking.lines) == FRAMES
    assert {line["image_id"] for line in asking.lines if line["endpoint"] == server.url} == set(
        before
    )


def test_answers_that_were_cut_are_counted_and_said(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    cut = (200, {"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]})
    assert asking(replica(lambda frame, _: cut if frame in ("f1", "f2") else None).url) == 0
    assert asking.usage["cut"] == 2
    assert [line["image_id"] for line in asking.lines if line.get("cut")] == ["f1", "f2"]
    assert "2 answers were cut at the limit of tokens" in capsys.readouterr().out


def test_refused_questions_in_a_row_are_their_answers_and_end_no_run(
    asking: Asking, replica: Callable[..., Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "GIVE_UP", 2)
    server = replica(lambda frame, _: None if frame in ("f9", "f11") else REFUSED)
    assert asking(server.url, more=("--batch-size", "1")) == 0
    assert [line["image_id"] for line in asking.lines] == ["f9", "f11"]
    assert len(asking.usage["missing"]) == FRAMES - 2


def test_a_new_start_does_not_ask_again_what_was_refused(
    asking: Asking, replica: Callable[..., Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "GIVE_UP", 2)
    replies = {1: REFUSED, 2: REFUSED, 3: None}
    first = replica(lambda _, n: replies.get(n, (401, "no credit")))
    assert asking(first.url, more=("--batch-size", "1")) == 1
    second = replica()
    assert asking(second.url) == 0
    assert sorted(second.asked) == sorted(f"f{i}" for i in range(3, FRAMES))
    assert set(asking.usage["missing"]) == {"f0", "f1"}
    assert "content filter" in asking.usage["missing"]["f0"]
    assert {line["image_id"] for line in asking.lines} == {f"f{i}" for i in range(2, FRAMES)}
    assert not any("refused" in line for line in asking.lines)


@pytest.mark.parametrize("broken", ["{", "[]", "{}", "\\", "[" * 100_000])
def test_a_broken_line_of_an_earlier_run_is_named(
    asking: Asking, replica: Callable[..., Replica], broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asking(replica().url)
    lines = (asking.out / "predictions.jsonl").read_text("utf-8").splitlines(keepends=True)
    partial = asking.out.rename(asking.out.with_name("gpt-5.partial"))
    (partial / "predictions.jsonl").write_text("".join([*lines[:2], broken + "\n", *lines[2:]]))
    assert asking(replica().url) == 1
    assert "predictions.jsonl:3: is no answer of an earlier run" in capsys.readouterr().err


def test_a_line_cut_off_in_the_middle_is_asked_again(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    asking(replica().url)
    lines = (asking.out / "predictions.jsonl").read_text("utf-8").splitlines(keepends=True)
    partial = asking.out.rename(asking.out.with_name("gpt-5.partial"))
    (partial / "predictions.jsonl").write_text("".join(lines[:3]) + lines[3][:40])
    server = replica()
    assert asking(server.url) == 0
    assert sorted(server.asked) == sorted(f"f{i}" for i in range(3, FRAMES))
    assert len(asking.lines) == FRAMES


def test_an_endpoint_without_any_answer_is_an_error(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    server = replica(lambda *_: REFUSED)
    assert asking(server.url, more=("--shard", "1/6")) == 1
    assert "gpt-5 answered none of 2 frames" in capsys.readouterr().err
    assert not asking.out.exists()


def test_the_settings_shape_the_request(asking: Asking, replica: Callable[..., Replica]) -> None:
    server = replica()
    path = Path(predict.__file__).parents[1] / "configs/endpoints/gpt-5.yaml"
    asking(server.url, more=("--settings", str(path)))
    body = server.requests[0]
    assert body["max_completion_tokens"] == 4096
    assert not {"temperature", "max_tokens", "response_format"} & set(body)
    assert asking.usage["usd"] > 0


def test_a_constrained_endpoint_is_given_the_schema(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    server = replica()
    asking(server.url, more=("--constrained",))
    given = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert given["required"] == ["count", "severity", "level", "score", "accidents", "summary"]
    assert server.requests[0]["max_tokens"] == predict.LEAST_NEW_TOKENS


def test_a_server_that_ignores_the_schema_gives_no_constrained_row(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    chat = {"choices": [{"message": {"content": "Two cars collided."}}], "usage": USAGE}
    server = replica(lambda frame, number: (200, chat))
    assert asking(server.url, more=("--constrained",)) == 1
    assert "ignores the schema that --constrained sends" in capsys.readouterr().err
    assert not list(asking.out.parent.glob(f"{asking.out.name}*"))
    assert asking(server.url) == 0  # without it, free text is an answer as any other


def test_an_adapter_of_another_prompt_is_not_paired_with_the_instructions(
    asking: Asking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, adapter = tmp_path / "model", tmp_path / "lora"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with Stage(adapter, kind="lora", inputs={}, config={}, versions=["prompt"]) as folder:
        (folder / "weights").write_bytes(b"")
    told = json.loads((adapter / "manifest.json").read_text())
    told["versions"]["prompt"] += 1
    (adapter / "manifest.json").write_text(json.dumps(told))
    given = ["--instructions", str(asking.instructions), "--inputs", "boxed"]
    given += ["--model", str(model), "--adapter", str(adapter), "--out", str(asking.out)]
    assert predict.main(given) == 1
    assert "lora was made with versions {'prompt': " in capsys.readouterr().err
    assert not asking.out.exists()


@pytest.mark.parametrize("model", ["no/such/folder", "absent", "/absent"])
def test_a_model_that_is_not_there_is_told_in_a_line(
    model: str, asking: Asking, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = ["--instructions", str(asking.instructions), "--inputs", "boxed", "--model", model]
    assert predict.main([*given, "--out", str(asking.out)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot load {model}: no such folder, and of the hub: ")
    assert told.count("\n") == 1
    assert not list(asking.out.parent.glob(f"{asking.out.name}*"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--adapter", "x"), "serves its own adapter"),
        (("--shard", "5/4"), "not between 1 and 4"),
        (("--shard", "half"), "expected PART/PARTS"),
        (("--batch-size", "0"), "at least 1"),
        (("--endpoint", "http://a/v1"), "given once"),
        (("--endpoint", "file:///etc"), "begins with http"),
    ],
)
def test_what_cannot_be_done_is_refused(
    asking: Asking, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert asking("http://a/v1", more=more) == 1
    assert words in capsys.readouterr().err
    assert not asking.out.exists()


@pytest.mark.parametrize("option", [("--settings", "x.yaml"), ("--base", "x")])
def test_what_belongs_to_an_endpoint_is_refused_without_one(
    asking: Asking, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert asking(more=option) == 1
    assert "endpoint" in capsys.readouterr().err


def shards(asking: Asking, url: str, parts: int = 3) -> list[Path]:
    made = []
    for part in range(1, parts + 1):
        made.append(asking.out.with_name(f"part-{part}"))
        assert asking(url, out=made[-1], more=("--shard", f"{part}/{parts}")) == 0
    return made


def put_together(asking: Asking, parts: list[Path]) -> int:
    named = ("--instructions", str(asking.instructions), "--out", str(asking.out))
    return merge.main([*map(str, parts), *named])


def test_shards_put_together_are_the_whole_row(
    asking: Asking, replica: Callable[..., Replica]
) -> None:
    server = replica(lambda frame, _: REFUSED if frame == "f4" else None)
    parts = shards(asking, server.url)
    assert put_together(asking, parts[::-1]) == 0
    expected = [f"f{i}" for i in range(FRAMES) if i != 4]
    assert [line["image_id"] for line in asking.lines] == expected
    assert set(asking.usage["missing"]) == {"f4"}
    assert asking.usage["prompt_tokens"] == 100 * (FRAMES - 1)
    rows = asking.out.parent
    for part in parts:
        part.rename(rows.parent / part.name)
    made = rows.parent / "eval"
    assert tables.main([
        *("--instructions", str(asking.instructions), "--predictions", str(rows)),
        *("--out", str(made)),
    ]) == 0  # fmt: skip
    assert json.loads((made / "gpt-5" / "scores.json").read_text())["missing"] == 1


def test_shards_that_do_not_make_a_whole_are_refused(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = shards(asking, replica().url)
    other = asking.out.with_name("other")
    asking(replica().url, out=other, more=("--shard", "3/3", "--max-new-tokens", "9"))
    for given, words in [
        ([first, third], "parts 2 of 3 are missing"),
        ([first, second, third, third], "part 3 of 3 is there twice"),
        ([first, second, other], "was not made as"),
    ]:
        assert put_together(asking, given) == 1
        assert words in capsys.readouterr().err
        assert not asking.out.exists()


def test_an_address_that_is_none_is_named(
    asking: Asking, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asking("http://host:port/v1") == 1
    assert "an endpoint is an address such as" in capsys.readouterr().err


def test_a_password_in_an_address_is_stored_nowhere(
    asking: Asking, replica: Callable[..., Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    url = replica(lambda frame, _: REFUSED if frame == "f3" else None).url
    assert asking(url.replace("//", "//ann:pass@")) == 0
    assert asking.usage["endpoints"] == {url: FRAMES - 1}
    assert not any(b"ann:pass" in f.read_bytes() for f in asking.out.iterdir() if f.is_file())
    assert "ann:pass" not in "".join(capsys.readouterr())
