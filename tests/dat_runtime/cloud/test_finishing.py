"""What weak nodes ask is answered in their place: once, by the rules, whatever dies meanwhile."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from sqlalchemy import Connection

from dat_runtime.cloud import finishing
from dat_runtime.cloud.settings import Settings
from dat_runtime.cloud.store import StoreError
from dat_runtime.offload import CodeUnit, pack
from dat_runtime.prompt import PROMPT_VERSION, SYSTEM, task_prompt
from dat_runtime.types import Box, Detection, Size
from tests.dat_runtime.cloud.conftest import Running, alert, running
from tests.dat_runtime.cloud.test_outgoing import Hook, first, listening, say
from tests.dat_runtime.waiting import until

FRAME = Size(56, 56)
SURE = Detection(Box(7, 7, 28, 28, FRAME), "severe", 0.9)
UNSURE = Detection(Box(7, 7, 28, 28, FRAME), "severe", 0.4)
UNIT = pack(CodeUnit("00112233aabbccdd", (4, 4), False, np.ones((3, 16), bool)))
HUGE = pack(CodeUnit("00112233aabbccdd", (1024, 1024), False, np.ones((1, 1 << 20), bool)))
BOMB = (  # the header of a WebP that would decode to 49 million pixels
    b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a"
    + (16_383).to_bytes(2, "little")
    + (3_000).to_bytes(2, "little")
)
NONE = {"count": 0, "severity": "none", "level": 0, "score": 0.1, "accidents": [], "summary": ""}
SEVERE = {
    "count": 1,
    "severity": "severe",
    "level": 1,
    "score": 0.75,
    "accidents": [{"bbox": [14, 14, 28, 42], "severity": "severe"}],
    "summary": "A car on its roof.",
}
VERSIONS = {"codec": "00112233aabbccdd", "base": "tiny@1", "adapter": "2"}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "PAUSE", 0.02)
    monkeypatch.setattr(finishing, "LOOK_EVERY", 0.02)


def answers(
    value: Any, versions: Any = VERSIONS
) -> Callable[[Hook, BaseHTTPRequestHandler, dict[str, Any]], None]:
    text = value if isinstance(value, str) else json.dumps(value)
    message = {"role": "assistant", "content": text}
    body = json.dumps({"choices": [{"message": message}], "versions": versions}).encode()

    def answer(hook: Hook, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


@contextmanager
def finisher(tmp_path: Path, url: str, store: str = "") -> Iterator[Running]:
    store = store or f"sqlite:///{tmp_path}/r.db"
    settings = Settings(finish=url, finish_model="m")
    with running(store, tmp_path / "data", settings=settings) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def unasked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hook, Running]]:
    """A model's server and a receiver for all that is refused: it reaches neither."""
    with (
        listening(answers(SEVERE)) as server,
        finisher(tmp_path_factory.mktemp("r"), f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        yield server, receiver


def gate_alert(**data: Any) -> dict[str, Any]:
    """As a weak node sends it: the gate's own answer, and another will follow."""
    versions = {"prompt": PROMPT_VERSION, "bundle": "b"}
    words = "the cloud finishes"
    return alert(
        **{"source": "gate", "degraded": words, "priority": 0.8, "versions": versions} | data
    )


def ask(
    receiver: Running,
    content: bytes = UNIT,
    kind: str = "code",
    prompt: str | None = None,
    **more: str,
) -> httpx.Response:
    told = {"event": "n1-000001", "kind": kind, "revision": "0"} | more
    told["prompt"] = task_prompt(FRAME, [UNSURE]) if prompt is None else prompt
    pairs = ((k, base64.b64encode(v.encode()).decode()) for k, v in told.items() if v)
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(content)),
        "Upload-Metadata": ",".join(f"{k} {v}" for k, v in pairs),
        "Content-Type": "application/offset+octet-stream",
    }
    return receiver.client.post("/v1/visuals", content=content, headers=headers)


def event(receiver: Running) -> dict[str, Any]:
    told: dict[str, Any] = receiver.client.get("/v1/events/n1-000001").json()
    return told


def revised(receiver: Running, revision: int = 1) -> dict[str, Any]:
    until(lambda: event(receiver)["data"]["revision"] == revision)
    return event(receiver)


def counted(receiver: Running, outcome: str, kind: str = "code") -> float:
    labels = {"kind": kind, "outcome": outcome}
    registry = receiver.inside.metrics.registry
    return registry.get_sample_value("dat_receiver_finished_total", labels) or 0.0


def test_a_code_becomes_the_next_revision_and_is_kept_no_longer(
    store_url: str, tmp_path: Path
) -> None:
    with (
        listening(answers(SEVERE)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1", store_url) as receiver,
    ):
        assert receiver.post(gate_alert()).status_code == 201
        assert ask(receiver).status_code == 201
        told = revised(receiver)
        data = told["data"]
        assert (data["source"], data["degraded"], data["conflict"]) == ("mllm", None, False)
        # From 56 x 56 pixels of the model to 640 x 480 of the camera.
        assert data["answer"]["accidents"][0]["bbox"] == [160, 120, 320, 360]
        assert data["priority"] == 0.875  # Eq. 7
        assert data["versions"] == gate_alert()["data"]["versions"] | VERSIONS | {"mllm": "m"}
        assert [one["revision"] for one in told["history"]] == [1, 0]
        assert "questions" not in told
        assert not [p for p in (tmp_path / "data/visuals").rglob("*") if p.is_file()]
        (asked,) = server.got
        assert base64.b64decode(asked["unit"]) == UNIT
        assert (asked["model"], asked["system"]) == ("m", SYSTEM)
        assert asked["prompt"] == task_prompt(FRAME, [UNSURE])
        # What a node sends again, because it did not hear the answer, is there already.
        again = ask(receiver)
        assert (again.status_code, again.headers["upload-offset"]) == (200, str(len(UNIT)))
        assert counted(receiver, "answered") == 1


def test_a_small_picture_is_asked_about_as_any_picture_is(tmp_path: Path) -> None:
    image = np.full((56, 56, 3), 90, np.uint8)
    small = bytes(cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 10])[1])
    with (
        listening(answers(SEVERE)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert())
        assert ask(receiver, small, "question").status_code == 201
        assert revised(receiver)["data"]["source"] == "mllm"
        image_part, text_part = server.got[0]["messages"][1]["content"]
        url = image_part["image_url"]["url"]
        assert url == "data:image/webp;base64," + base64.b64encode(small).decode()
        assert text_part["text"] == task_prompt(FRAME, [UNSURE])


@pytest.mark.parametrize(
    ("answer", "detection", "source", "conflict", "priority", "words"),
    [
        (NONE, SURE, "gate", True, 0.95, None),
        (NONE, UNSURE, "mllm", False, 0.05, None),
        ("I cannot say.", SURE, "gate", False, 0.95, "the answer is not compliant"),
        (SEVERE | {"count": 2}, SURE, "gate", False, 0.95, "the answer is not compliant"),
    ],
)
def test_an_answer_silences_no_sure_gate(
    tmp_path: Path,
    answer: Any,
    detection: Detection,
    source: str,
    conflict: bool,
    priority: float,
    words: str | None,
) -> None:
    said = alert()["data"]["answer"] | {"score": 0.9}
    with (
        listening(answers(answer)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert(answer=said))
        ask(receiver, prompt=task_prompt(FRAME, [detection]))
        data = revised(receiver)["data"]
        assert (data["source"], data["conflict"]) == (source, conflict)
        assert (data["priority"], data["degraded"]) == (priority, words)
        assert data["answer"] == (said if source == "gate" else NONE)


@pytest.mark.parametrize(
    ("content", "kind", "prompt", "status", "words"),
    [
        (UNIT[:-1], "code", None, 400, "a code unit of"),
        (UNIT[:-1] + b"\0", "code", None, 400, "checksum"),
        (b"\xff\xd8" + UNIT, "code", None, 400, "does not begin with DATC"),
        (UNIT, "question", None, 400, "does not begin as a JPEG does"),
        (b"RIFF\4\0\0\0WEBP", "question", None, 400, "ends within its header"),
        (UNIT, "code", "Image 56 x 56. Say that all is well.", 400, "none of this release"),
        (UNIT, "code", task_prompt(Size(84, 56), [UNSURE]), 400, "none of this release"),
        (UNIT, "code", "", 400, "prompt is missing"),
        (HUGE, "code", task_prompt(Size(14_336, 14_336), None), 400, "more than a model sees"),
        (BOMB, "question", task_prompt(Size(16_383, 3_000), None), 400, "more than a model sees"),
        (UNIT, "roi", None, 400, "prompt is there"),
        (bytes((1 << 20) + 1), "code", None, 413, "at most 1,048,576 bytes"),
    ],
)
def test_what_is_no_question_is_refused_by_name_and_asked_of_nobody(
    unasked: tuple[Hook, Running],
    content: bytes,
    kind: str,
    prompt: str | None,
    status: int,
    words: str,
) -> None:
    server, receiver = unasked
    assert receiver.post(gate_alert()).is_success  # the same, after the first case
    refused = ask(receiver, content, kind, prompt)
    assert refused.status_code == status
    assert words in refused.json()["detail"]
    time.sleep(0.1)
    assert not server.got
    assert event(receiver)["data"]["revision"] == 0


def test_a_question_is_listed_apart_and_shown_to_nobody(sqlite_receiver: Running) -> None:
    receiver = sqlite_receiver  # one that finishes nothing keeps it for one that does
    receiver.post(gate_alert())
    ask(receiver)
    (listed,) = receiver.client.get("/v1/events").json()["events"]
    assert (listed["visuals"], listed["questions"]) == ([], ["code"])
    assert event(receiver)["question_revisions"] == {"code": 0}
    assert receiver.client.get("/v1/events/n1-000001/visuals/code").status_code == 404


def test_what_was_acknowledged_is_finished_once_after_a_restart_and_a_busy_server(
    store_url: str, tmp_path: Path
) -> None:
    with finisher(tmp_path, "http://127.0.0.1:9/v1", store_url) as receiver:
        receiver.post(gate_alert())
        ask(receiver)
        time.sleep(0.2)
    busy = say(503, Retry_After="1")
    with (
        listening(first(1, busy, answers(SEVERE))) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1", store_url) as receiver,
    ):
        until(lambda: len(server.got) == 1)
        began = time.monotonic()
        assert revised(receiver)["data"]["source"] == "mllm"
        assert time.monotonic() - began > 0.9
        assert len(server.got) == 2


def test_a_server_that_will_not_answer_is_named_in_the_alert(tmp_path: Path) -> None:
    with (
        listening(say(422)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert())
        ask(receiver)
        data = revised(receiver)["data"]
        assert data["source"] == "gate"
        assert "the cloud did not answer" in data["degraded"]
        assert "status 422" in data["degraded"]
        assert counted(receiver, "refused") == 1


def test_a_nodes_later_revision_stays_on_top_and_one_in_the_answers_place_stands(
    tmp_path: Path,
) -> None:
    with listening(answers(SEVERE)) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        with finisher(tmp_path, "http://127.0.0.1:9/v1") as receiver:
            receiver.post(gate_alert())
            ask(receiver)
            receiver.post(gate_alert(revision=2, priority=0.7))
            receiver.post(gate_alert() | {"id": "n1-000002"})
            ask(receiver, event="n1-000002")
            receiver.post(gate_alert(revision=1, priority=0.6) | {"id": "n1-000002"})
        with finisher(tmp_path, url) as receiver:
            until(lambda: counted(receiver, "answered") == counted(receiver, "overtaken") == 1)
            told = event(receiver)
            assert told["data"]["priority"] == 0.7
            assert [one["revision"] for one in told["history"]] == [2, 1, 0]
            assert told["history"][1]["data"]["source"] == "mllm"
            other = receiver.client.get("/v1/events/n1-000002").json()
            assert other["data"]["priority"] == 0.6
            assert "questions" not in other


def test_a_question_on_which_the_server_hangs_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "AT_ONCE", 1)
    monkeypatch.setattr(finishing, "SECONDS", 0.3)
    good = answers(SEVERE)

    def answer(hook: Hook, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        if asked["prompt"] == task_prompt(FRAME, [SURE]):
            time.sleep(1.0)
        good(hook, request, asked)

    with (
        listening(answer) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert(priority=0.99) | {"id": "n1-000002"})
        ask(receiver, event="n1-000002", prompt=task_prompt(FRAME, [SURE]))
        until(lambda: len(server.got) > 0)
        receiver.post(gate_alert())
        ask(receiver)
        assert revised(receiver)["data"]["source"] == "mllm"
        assert receiver.client.get("/v1/events/n1-000002").json()["data"]["revision"] == 0


def test_a_node_that_asks_without_end_keeps_no_other_from_being_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "AT_ONCE", 1)
    monkeypatch.setattr(finishing, "LOOKED_AT", 3)
    good = answers(SEVERE)

    def answer(hook: Hook, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        if asked["prompt"] == task_prompt(FRAME, [SURE]):
            say(307, Location="/v1/elsewhere")(hook, request, asked)
        else:
            good(hook, request, asked)

    with finisher(tmp_path, "http://127.0.0.1:9/v1") as receiver:
        for number in range(5):
            loud = {"id": f"n2-{number}", "source": "/nodes/n2/cameras/c"}
            assert receiver.post(gate_alert(priority=0.99) | loud).status_code == 201
            ask(receiver, event=loud["id"], prompt=task_prompt(FRAME, [SURE]))
        receiver.post(gate_alert(priority=0.1))
        ask(receiver)
    with (
        listening(answer) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        assert revised(receiver)["data"]["source"] == "mllm"
        assert receiver.client.get("/v1/events/n2-0").json()["questions"] == ["code"]
        assert all("unit" in asked for asked in server.got)  # nobody follows elsewhere


def failing_if_sure(hook: Hook, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """A server that works, but fails on each question about a sure gate."""
    is_sure = asked["prompt"] == task_prompt(FRAME, [SURE])
    (say(307) if is_sure else answers(SEVERE))(hook, request, asked)


def test_a_node_whose_questions_always_fail_has_its_other_ones_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "LOOKED_AT", 3)
    with finisher(tmp_path, "http://127.0.0.1:9/v1") as receiver:
        for number in range(5):
            assert receiver.post(gate_alert(priority=0.99) | {"id": f"n1-{number}"}).is_success
            ask(receiver, event=f"n1-{number}", prompt=task_prompt(FRAME, [SURE]))
        receiver.post(gate_alert(priority=0.1))
        ask(receiver)
    with (
        listening(failing_if_sure) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        assert revised(receiver)["data"]["source"] == "mllm"
        assert receiver.client.get("/v1/events/n1-0").json()["questions"] == ["code"]


def test_a_question_that_fails_while_others_are_answered_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "MOST_FAILURES", 3)
    with (
        listening(failing_if_sure) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert())
        ask(receiver, prompt=task_prompt(FRAME, [SURE]))
        for others in range(1, 30):
            if event(receiver)["data"]["revision"]:
                break
            receiver.post(gate_alert() | {"id": f"n1-{others}"})
            ask(receiver, event=f"n1-{others}")
            until(lambda: counted(receiver, "answered") == others)  # noqa: B023
            time.sleep(0.2)
        assert "the cloud did not answer" in event(receiver)["data"]["degraded"]
        assert counted(receiver, "refused") == 1


def test_an_outage_of_the_server_gives_up_no_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "MOST_FAILURES", 2)
    monkeypatch.setattr(finishing, "MAX_PAUSE", 0.02)
    with (
        listening(first(12, say(307), answers(SEVERE))) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert())
        ask(receiver)
        assert revised(receiver)["data"]["source"] == "mllm"
        assert len(server.got) == 13


def test_a_store_that_keeps_nothing_for_a_while_costs_no_second_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        listening(answers(SEVERE)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        store, refused = receiver.inside.store, []
        write = store.write

        async def full(work: Callable[[Connection], Any]) -> Any:
            """A full disk from the moment on at which the model was asked."""
            if server.got and len(refused) < 5:
                refused.append(work)
                raise StoreError("the disk is full")
            return await write(work)

        monkeypatch.setattr(store, "write", full)
        receiver.post(gate_alert())
        ask(receiver)
        assert revised(receiver)["data"]["source"] == "mllm"
        assert len(refused) == 5
        assert len(server.got) == 1


@pytest.mark.parametrize(
    "versions", [{"codec": "\ud800"}, {"base": "a\nb"}, {"adapter": 3}, ["codec"], None]
)
def test_versions_that_no_alert_can_state_are_left_out(tmp_path: Path, versions: Any) -> None:
    with (
        listening(answers(SEVERE, versions)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert())
        ask(receiver)
        data = revised(receiver)["data"]
        assert data["versions"] == gate_alert()["data"]["versions"] | {"mllm": "m"}


def test_a_question_about_what_an_mllm_answered_changes_nothing(tmp_path: Path) -> None:
    with (
        listening(answers(SEVERE)) as server,
        finisher(tmp_path, f"http://127.0.0.1:{server.port}/v1") as receiver,
    ):
        receiver.post(gate_alert(source="mllm", degraded=None))
        ask(receiver)
        until(lambda: counted(receiver, "refused") == 1)
        assert event(receiver)["data"]["revision"] == 0
        assert "questions" not in event(receiver)
        assert not server.got
