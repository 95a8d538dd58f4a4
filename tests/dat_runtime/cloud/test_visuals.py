"""Visuals come in resumable, are judged when whole, and are shown: tus 1.0.0 over real HTTP."""

import base64
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from dat_runtime.cloud import uploads, visuals
from dat_runtime.cloud.tus import metadata
from dat_runtime.cloud.upload_files import Files, Writing
from dat_runtime.draw import encode_jpeg
from tests.dat_runtime.cloud.conftest import Running, alert, running

NOISE = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
JPEG = encode_jpeg(NOISE)
OTHER = encode_jpeg(NOISE[:120])
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


def told(**pairs: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


def creation(
    event: str = "n1-000001", kind: str = "roi", length: int = len(JPEG), **more: str
) -> dict[str, str]:
    return TUS | {
        "Upload-Length": str(length),
        "Upload-Metadata": told(event=event, kind=kind, **more),
    }


def create(receiver: Running, **more: Any) -> str:
    """Create an upload; its address."""
    answer = receiver.client.post("/v1/visuals", headers=creation(**more))
    assert answer.status_code in (200, 201), answer.text
    return str(answer.request.url.join(answer.headers["location"]))


def send(receiver: Running, where: str, at: int, content: bytes) -> httpx.Response:
    headers = BYTES | {"Upload-Offset": str(at)}
    return receiver.client.patch(where, content=content, headers=headers)


def offset(receiver: Running, where: str) -> int:
    answer = receiver.client.head(where, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def uploaded(receiver: Running, content: bytes = JPEG, **more: Any) -> httpx.Response:
    """Creation with the whole upload in it."""
    headers = BYTES | creation(length=len(content), **more)
    return receiver.client.post("/v1/visuals", content=content, headers=headers)


def picture(receiver: Running, kind: str = "roi", **more: Any) -> httpx.Response:
    return receiver.client.get(f"/v1/events/n1-000001/visuals/{kind}", **more)


def stored(receiver: Running) -> list[Path]:
    return [p for p in (receiver.inside.folder / "visuals").rglob("*") if p.is_file()]


@pytest.fixture
def ready(receiver: Running) -> Running:
    """A receiver that has the event."""
    assert receiver.post(alert()).status_code == 201
    return receiver


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Any:
    """As `ready`, for what does not touch the store's kind."""
    with running(f"sqlite:///{tmp_path}/r.db", tmp_path / "data") as receiver:
        receiver.post(alert())
        yield receiver


def test_a_visual_in_three_parts_is_shown_once_it_is_whole(ready: Running) -> None:
    where = create(ready)
    assert offset(ready, where) == 0
    for start, end in ((0, 1_000), (1_000, 2_001), (2_001, len(JPEG))):
        assert picture(ready).status_code == 404
        answer = send(ready, where, start, JPEG[start:end])
        assert answer.status_code == 204, answer.text
        assert answer.headers["upload-offset"] == str(end)
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert ("upload-expires" in answer.headers) is (end < len(JPEG))
    shown = picture(ready)
    assert shown.content == JPEG
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in shown.headers["content-security-policy"]
    event = ready.client.get("/v1/events/n1-000001").json()
    assert event["visuals"] == ["roi"]
    assert event["visual_revisions"] == {"roi": 0}
    head = ready.client.head(where, headers=TUS).headers
    assert head["upload-length"] == head["upload-offset"] == str(len(JPEG))
    assert metadata(head["upload-metadata"]) == {"event": "n1-000001", "kind": "roi"}


def test_creation_with_the_upload_in_it(on_sqlite: Running) -> None:
    answer = uploaded(on_sqlite)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(JPEG)))
    assert picture(on_sqlite).content == JPEG
    again = uploaded(on_sqlite)
    assert (again.status_code, again.headers["upload-offset"]) == (200, str(len(JPEG)))
    assert again.headers["location"] == answer.headers["location"]


def test_a_body_without_length_that_ends_early_is_kept(on_sqlite: Running) -> None:
    headers = BYTES | creation()
    answer = on_sqlite.client.post("/v1/visuals", content=iter([JPEG[:3_000]]), headers=headers)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "3000")
    where = str(answer.request.url.join(answer.headers["location"]))
    parts = iter([JPEG[3_000:4_000], JPEG[4_000:]])
    answer = on_sqlite.client.patch(where, content=parts, headers=BYTES | {"Upload-Offset": "3000"})
    assert answer.headers["upload-offset"] == str(len(JPEG))
    assert picture(on_sqlite).content == JPEG


def test_options_say_what_is_spoken(on_sqlite: Running) -> None:
    answer = on_sqlite.client.options("/v1/visuals")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,creation-with-upload,expiration"
    assert answer.headers["tus-max-size"] == "8000000"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "Tus-Resumable"),
        ({"Tus-Resumable": None}, 412, "Tus-Resumable"),
        ({"Upload-Length": None}, 400, "Upload-Length"),
        ({"Upload-Length": "-1"}, 400, "Upload-Length"),
        ({"Upload-Length": "1e3"}, 400, "Upload-Length"),
        ({"Upload-Length": "9" * 30}, 400, "Upload-Length"),
        ({"Upload-Length": "0"}, 400, "at least one byte"),
        ({"Upload-Length": "8000001"}, 413, "8,000,000"),
        ({"Upload-Metadata": None}, 400, "event is missing"),
        ({"Upload-Metadata": "event,kind"}, 400, "event is ''"),
        ({"Upload-Metadata": "event ???"}, 400, "base64"),
        ({"Upload-Metadata": told(event="n1-000001", kind="raw")}, 400, "kind is 'raw'"),
        ({"Upload-Metadata": told(event="../../x", kind="roi")}, 400, "event is"),
        ({"Upload-Metadata": told(event="e", kind="roi") + "," + told(kind="roi")}, 400, "twice"),
        ({"Upload-Metadata": told(event="e", kind="roi", x="y")}, 400, "unknown key 'x'"),
        ({"Upload-Metadata": told(event="e", kind="roi", revision="-1")}, 400, "revision"),
        ({"Upload-Metadata": "event " + "A" * 9_000}, 400, "8,000 characters"),
        ({"Upload-Metadata": told(event="other", kind="roi")}, 404, "no event"),
        ({"Upload-Metadata": told(event="n1-000001", kind="roi", node="n2")}, 404, "no event"),
        (
            {"Upload-Metadata": told(event="n1-000001", kind="roi", revision="1")},
            409,
            "no revision 1",
        ),
        ({"Content-Type": "image/jpeg", "Content-Length": "5"}, 415, "offset"),
    ],
)
def test_a_creation_that_will_not_do_is_refused_by_name(
    refusing: Running, change: dict[str, str | None], status: int, words: str
) -> None:
    assert refusing.post(alert()).is_success  # the same, after the first case
    headers = {k: v for k, v in (creation() | change).items() if v is not None}
    content = b"abcde" if "Content-Length" in headers else b""
    answer = refusing.client.post("/v1/visuals", headers=headers, content=content)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert stored(refusing) == []


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        (BYTES | {"Upload-Offset": "99"}, b"a", 409),
        (BYTES | {"Upload-Offset": "101"}, b"a", 409),
        (BYTES, b"a", 400),
        (BYTES | {"Upload-Offset": "x"}, b"a", 400),
        (TUS | {"Content-Type": "image/jpeg", "Upload-Offset": "100"}, b"a", 415),
        (TUS | {"Upload-Offset": "100"}, b"a", 415),
        (BYTES | {"Upload-Offset": "100", "Tus-Resumable": "2.0.0"}, b"a", 412),
        (BYTES | {"Upload-Offset": "100", "Content-Encoding": "gzip"}, b"a", 415),
        (BYTES | {"Upload-Offset": "100"}, b"a" * len(JPEG), 413),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    on_sqlite: Running, headers: dict[str, str], content: bytes, status: int
) -> None:
    where = create(on_sqlite)
    send(on_sqlite, where, 0, JPEG[:100])
    answer = on_sqlite.client.patch(where, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 412:
        assert answer.headers["tus-version"] == "1.0.0"
    assert offset(on_sqlite, where) == 100
    assert send(on_sqlite, where, 100, JPEG[100:]).status_code == 204
    assert picture(on_sqlite).content == JPEG


def test_more_bytes_than_were_announced_end_the_request(on_sqlite: Running) -> None:
    """Thirty gigabytes in chunks: it ends after as many bytes as there is room for."""
    where = create(on_sqlite)
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 30_000_000_000:
            sent += 65_536
            yield bytes(65_536)

    try:
        answer = on_sqlite.client.patch(
            where, content=endless(), headers=BYTES | {"Upload-Offset": "0"}
        )
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # it was closed while we were still sending
    assert sent < 100_000_000
    assert sum(p.stat().st_size for p in stored(on_sqlite)) <= len(JPEG)


def test_what_came_before_a_connection_broke_is_kept(on_sqlite: Running) -> None:
    where = httpx.URL(create(on_sqlite))
    with socket.create_connection((where.host, where.port)) as connection:
        head = f"PATCH {where.path} HTTP/1.1\r\nHost: {where.host}\r\nUpload-Offset: 0\r\n"
        head += "".join(f"{k}: {v}\r\n" for k, v in BYTES.items())
        head += f"Content-Length: {len(JPEG)}\r\n\r\n"
        connection.sendall(head.encode() + JPEG[:5_000])
        time.sleep(0.2)
    for _ in range(500):
        if offset(on_sqlite, str(where)) == 5_000:
            break
        time.sleep(0.01)
    assert send(on_sqlite, str(where), 5_000, JPEG[5_000:]).status_code == 204
    assert picture(on_sqlite).content == JPEG


def test_a_picture_that_is_whole_is_answered_before_its_body_ends(on_sqlite: Running) -> None:
    """The mark after the last chunk is a packet of its own, and may come a second later."""
    where = httpx.URL(create(on_sqlite))
    with socket.create_connection((where.host, where.port), timeout=10) as connection:
        head = f"PATCH {where.path} HTTP/1.1\r\nHost: {where.host}\r\nUpload-Offset: 0\r\n"
        head += "".join(f"{k}: {v}\r\n" for k, v in BYTES.items())
        head += f"Transfer-Encoding: chunked\r\n\r\n{len(JPEG):x}\r\n"
        connection.sendall(head.encode() + JPEG + b"\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 204 ")
        assert picture(on_sqlite).content == JPEG
        connection.sendall(b"0\r\n\r\n")
        # The connection takes another request afterwards.
        connection.sendall(f"OPTIONS /v1/visuals HTTP/1.1\r\nHost: {where.host}\r\n\r\n".encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 204 ")


def test_a_sender_that_falls_silent_is_let_go(
    on_sqlite: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visuals, "SILENCE", 0.2)
    where = create(on_sqlite)

    def silent() -> Any:
        yield JPEG[:700]
        time.sleep(1)
        yield JPEG[700:]

    try:
        answer = on_sqlite.client.patch(
            where, content=silent(), headers=BYTES | {"Upload-Offset": "0"}
        )
        assert answer.status_code == 408
    except httpx.TransportError:
        pass
    assert offset(on_sqlite, where) == 700


def test_two_requests_do_not_write_to_one_upload(on_sqlite: Running) -> None:
    where = create(on_sqlite)
    key = where.rpartition("/")[2]
    other = Writing(Files(on_sqlite.inside.folder / "visuals"), key)
    answer = send(on_sqlite, where, 0, JPEG)
    assert answer.status_code == 423
    assert answer.headers["retry-after"]
    assert offset(on_sqlite, where) == 0
    other.close()
    assert send(on_sqlite, where, 0, JPEG).status_code == 204
    assert picture(on_sqlite).content == JPEG


@pytest.mark.parametrize(
    "content", [b"<html><script>alert(1)</script>", JPEG[:-2], b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_what_is_no_jpeg_is_refused_when_it_is_whole(on_sqlite: Running, content: bytes) -> None:
    answer = uploaded(on_sqlite, content)
    assert answer.status_code == 400
    assert "no JPEG" in answer.json()["detail"]
    assert stored(on_sqlite) == []
    assert picture(on_sqlite).status_code == 404
    assert b'outcome="refused"} 1.0' in on_sqlite.inside.metrics.page()
    assert uploaded(on_sqlite).status_code == 201  # the right one still comes through


def test_the_visual_of_a_later_revision_replaces_the_older(ready: Running) -> None:
    uploaded(ready)
    half = create(ready, kind="box")
    assert ready.post(alert(revision=2)).status_code == 201
    assert picture(ready).content == JPEG  # until another is there
    assert uploaded(ready, OTHER).status_code == 201
    assert picture(ready).content == OTHER
    assert len(stored(ready)) == 1
    event = ready.client.get("/v1/events/n1-000001").json()
    assert event["visual_revisions"] == {"roi": 2}
    # One that is late is told so, and one that was begun before still ends.
    assert uploaded(ready, JPEG, revision="0").status_code == 409
    assert send(ready, half, 0, JPEG).status_code == 204
    assert picture(ready, "box").content == JPEG


def test_an_older_visual_that_ends_after_a_later_one_is_not_shown(ready: Running) -> None:
    older = create(ready)
    send(ready, older, 0, JPEG[:50])
    ready.post(alert(revision=1))
    later = create(ready, length=len(OTHER))
    assert older != later
    # Whichever ends last, the later one is shown.
    send(ready, later, 0, OTHER)
    assert send(ready, older, 50, JPEG[50:]).status_code == 404
    assert picture(ready).content == OTHER


def test_a_visual_of_a_revision_that_never_came_is_refused(ready: Running) -> None:
    """Its boxes are not here: the export of reviews broke off at it, for good."""
    ready.post(alert(revision=2))
    answer = uploaded(ready, revision="1")
    assert answer.status_code == 409
    assert "no revision 1" in answer.json()["detail"]


def test_names_with_a_null_in_them_name_nothing(ready: Running) -> None:
    """PostgreSQL takes no such text: it was a fault of the receiver's, with a traceback."""
    for path in ("n1-000001/visuals/%00", "n1-000001/visuals/roi?node=%00", "n1-000001?node=%00"):
        assert ready.client.get(f"/v1/events/{path}").status_code == 404
    assert ready.client.head("/v1/visuals/%00", headers=TUS).status_code == 404
    assert send(ready, "/v1/visuals/%00", 0, b"x").status_code == 404


def test_another_length_is_another_picture(on_sqlite: Running) -> None:
    create(on_sqlite)
    assert uploaded(on_sqlite, OTHER).status_code == 409


def test_a_picture_is_cached_by_what_its_address_says(on_sqlite: Running) -> None:
    uploaded(on_sqlite)
    latest, fixed = picture(on_sqlite), picture(on_sqlite, params={"revision": 0})
    assert "no-cache" in latest.headers["cache-control"]
    assert "immutable" in fixed.headers["cache-control"]
    tag = {"If-None-Match": latest.headers["etag"]}
    assert picture(on_sqlite, headers=tag).status_code == 304
    assert picture(on_sqlite, params={"revision": 1}).status_code == 404
    assert picture(on_sqlite, params={"revision": "x"}).status_code == 400
    part = picture(on_sqlite, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, JPEG[:10])


def test_a_file_that_was_lost_begins_anew(on_sqlite: Running) -> None:
    where = create(on_sqlite)
    send(on_sqlite, where, 0, JPEG[:500])
    (file,) = stored(on_sqlite)
    file.write_bytes(JPEG[:200])
    assert send(on_sqlite, where, 500, JPEG[500:]).status_code == 409
    assert offset(on_sqlite, where) == 200
    assert send(on_sqlite, where, 200, JPEG[200:]).status_code == 204
    assert picture(on_sqlite).content == JPEG


def test_a_whole_file_of_which_a_part_was_lost_goes_on_where_it_ends(on_sqlite: Running) -> None:
    uploaded(on_sqlite)
    (file,) = stored(on_sqlite)
    file.write_bytes(JPEG[:200])
    where = create(on_sqlite)
    assert send(on_sqlite, where, 200, JPEG[200:]).status_code == 204
    assert picture(on_sqlite).content == JPEG


def test_bytes_that_were_never_acknowledged_are_cut_off(on_sqlite: Running) -> None:
    where = create(on_sqlite)
    send(on_sqlite, where, 0, JPEG[:500])
    (file,) = stored(on_sqlite)
    file.write_bytes(JPEG[:500] + bytes(4_000))  # a power cut's leftovers
    assert offset(on_sqlite, where) == 500
    assert send(on_sqlite, where, 500, JPEG[500:]).status_code == 204
    assert picture(on_sqlite).content == JPEG


def test_a_full_disk_acknowledges_nothing(
    on_sqlite: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = create(on_sqlite)

    def full(self: Writing) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Writing, "sync", full)
        assert send(on_sqlite, where, 0, JPEG).status_code == 507
    assert offset(on_sqlite, where) == 0
    assert send(on_sqlite, where, 0, JPEG).status_code == 204


def test_a_node_has_so_many_uploads_under_way(
    ready: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_OPEN", 2)
    ready.post([alert(f"e{n}") for n in range(4)])
    first = create(ready, event="e0")
    create(ready, event="e1")
    refused = ready.client.post("/v1/visuals", headers=creation("e2"))
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    ready.post(alert("e2", "n2"))  # another node has limits of its own
    assert create(ready, event="e2", node="n2")
    # One that rests gives way.
    monkeypatch.setattr(uploads, "RESTS_SECONDS", -1.0)
    create(ready, event="e2", node="n1")
    assert ready.client.head(first, headers=TUS).status_code == 404


def test_post_stands_in_for_patch(on_sqlite: Running) -> None:
    where = create(on_sqlite)
    headers = BYTES | {"Upload-Offset": "0"}
    assert on_sqlite.client.post(where, content=JPEG, headers=headers).status_code == 405
    headers["X-HTTP-Method-Override"] = "PATCH"
    assert on_sqlite.client.post(where, content=JPEG, headers=headers).status_code == 204
    assert picture(on_sqlite).content == JPEG


def test_a_node_touches_its_own_visuals_only(store_url: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tone\nn2\ttwo\noperator\tboss\n")

    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    with running(store_url, tmp_path / "data", tokens) as receiver:
        one, two, boss = bearer("one"), bearer("two"), bearer("boss")
        receiver.post(alert(), **one)
        client = receiver.client
        for headers, status in (({}, 401), (two, 404), (boss, 403), (one, 201)):
            answer = client.post("/v1/visuals", headers=creation() | headers)
            assert answer.status_code == status
            assert answer.headers["tus-resumable"] == "1.0.0"
        where = str(answer.request.url.join(answer.headers["location"]))
        for headers, status in (({}, 401), (two, 404), (boss, 403), (one, 204)):
            sending = BYTES | headers | {"Upload-Offset": "0"}
            assert client.patch(where, content=JPEG, headers=sending).status_code == status
        for headers, status in (({}, 401), (two, 404), (boss, 200), (one, 200)):
            assert picture(receiver, headers=headers).status_code == status


def test_ids_are_no_part_of_a_path(on_sqlite: Running) -> None:
    for path in ("/v1/events/../../x/visuals/roi", "/v1/events/..%2f..%2fetc/visuals/roi"):
        assert on_sqlite.client.get(path).status_code == 404
    for key in ("..%2f..%2fr.db", "../r.db", "x" * 5_000):
        assert on_sqlite.client.head(f"/v1/visuals/{key}", headers=TUS).status_code == 404
        assert send(on_sqlite, f"/v1/visuals/{key}", 0, b"x").status_code == 404
    uploaded(on_sqlite)
    (file,) = stored(on_sqlite)
    assert "n1" not in file.name


def test_two_receivers_share_a_folder(store_url: str, tmp_path: Path) -> None:
    """As two machines behind a load balancer do: each part of a visual goes to the other one."""
    data = tmp_path / "data"
    with running(store_url, data) as one, running(store_url, data) as two:
        one.post(alert())
        where = httpx.URL(create(one)).path
        for n, start in enumerate(range(0, len(JPEG), 9_000)):
            each = (one, two)[n % 2]
            assert send(each, where, start, JPEG[start : start + 9_000]).status_code == 204
        assert picture(one).content == picture(two).content == JPEG


def test_the_store_knows_no_more_than_the_disk_has(on_sqlite: Running) -> None:
    """Every byte that is acknowledged is on disk; nothing is shown before its end."""
    where = create(on_sqlite)
    send(on_sqlite, where, 0, JPEG[:1_234])
    query = select(uploads.uploads.c.arrived, uploads.uploads.c.complete)
    with on_sqlite.inside.store._reader.connect() as connection:
        assert connection.execute(query).one() == (1_234, False)
    (file,) = stored(on_sqlite)
    assert file.read_bytes() == JPEG[:1_234]


@pytest.fixture
def without_event(tmp_path: Path) -> Any:
    with running(f"sqlite:///{tmp_path}/r.db", tmp_path / "visuals") as receiver:
        yield receiver


def test_a_visual_may_wait_for_its_alert_and_for_its_revision(without_event: Running) -> None:
    receiver = without_event

    def follow() -> None:
        for revision in (0, 1):
            time.sleep(0.15)
            receiver.post(alert(revision=revision))

    alerts = threading.Thread(target=follow)
    alerts.start()
    headers = BYTES | creation(revision="1") | {"Prefer": "respond-async, wait=5"}
    answer = receiver.client.post("/v1/visuals", content=JPEG, headers=headers)
    alerts.join()
    assert answer.status_code == 201
    assert picture(receiver).content == JPEG


def test_a_visual_whose_alert_does_not_come_is_refused_when_its_patience_ends(
    without_event: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dat_runtime.cloud.tus.MAX_PATIENCE", 0.3)
    began = time.monotonic()
    answer = without_event.client.post(
        "/v1/visuals", headers=creation() | {"Prefer": "wait=999999"}
    )
    assert answer.status_code == 404
    assert time.monotonic() - began >= 0.3


def test_so_many_visuals_wait_and_further_ones_are_answered_at_once(
    without_event: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dat_runtime.cloud.visuals.MAX_WAITING", 0)
    began = time.monotonic()
    answer = without_event.client.post("/v1/visuals", headers=creation() | {"Prefer": "wait=30"})
    assert answer.status_code == 404
    assert time.monotonic() - began < 15  # it did not wait for its thirty seconds
