"""Visuals are shown, by requests that are made by hand."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import HTTPException, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from dat_runtime.cloud import alerts, page, pictures, uploads
from dat_runtime.cloud.access import Access
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.pictures import Pictures
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.tus import Wanted
from tests.dat_runtime.cloud.conftest import alert


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Receiver]:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path / "data")
    yield receiver
    receiver.store.close()


def keep(
    receiver: Receiver, kind: str, revision: int = 0, node: str = "n1", complete: bool = True
) -> str:
    """A visual of an event's revision; its key."""

    def work(connection: Connection) -> str:
        alerts.record(connection, [alerts.received(alert("e", node, revision=revision), 5.0)])
        event = alerts.find(connection, "e", node)
        assert event is not None
        row, _ = uploads.create(connection, event, Wanted("e", kind, node, revision, 9, ""))
        if complete:
            uploads.complete(connection, row.key)
        return str(row.key)

    key = asyncio.run(receiver.store.write(work))
    path = receiver.folder / "visuals" / key[:2] / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"{node} {kind} {revision}".encode())
    return key


def ask(receiver: Receiver, kind: str, query: str = "", **headers: str) -> Response:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "query_string": query.encode(), "headers": pairs}
    return asyncio.run(Pictures(receiver).show(Request(scope), "e", kind))


def shown(receiver: Receiver, *given: str, **headers: str) -> str:
    answer = ask(receiver, *given, **headers)
    assert isinstance(answer, FileResponse)
    assert (answer.status_code, answer.media_type) == (200, "image/jpeg")
    return Path(answer.path).read_text()


def refused(receiver: Receiver, *given: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(HTTPException) as refusal:
        ask(receiver, *given, **headers)
    return refusal.value.status_code, refusal.value.detail


def test_the_latest_picture_is_shown_or_that_of_a_revision(inside: Receiver) -> None:
    key = keep(inside, "roi", 1)
    keep(inside, "roi", 2, complete=False)
    assert shown(inside, "roi") == shown(inside, "roi", "revision=1") == "n1 roi 1"
    none = (404, "no visual 'roi' of this event")
    assert refused(inside, "roi", "revision=2") == none
    assert refused(inside, "box") == (404, "no visual 'box' of this event")
    keep(inside, "box", 1)
    assert shown(inside, "box") == "n1 box 1"
    (inside.folder / "visuals" / key[:2] / key).unlink()
    assert refused(inside, "roi") == none


def test_what_is_no_picture_is_shown_to_nobody(inside: Receiver) -> None:
    keep(inside, "code")
    for kind in ("code", "question", "x"):
        assert refused(inside, kind) == (404, f"no visual {kind!r} of this event")


@pytest.mark.parametrize("text", ["x", "-1", "12345678", "%C2%B2", "1.0", ""])
def test_a_revision_is_a_whole_number(inside: Receiver, text: str) -> None:
    told = (400, "revision: expected a whole number")
    assert refused(inside, "roi", f"revision={text}") == told
    assert pictures._revision("1234567") == 1_234_567


def test_whose_event_it_is_has_to_be_said_where_there_are_several(
    inside: Receiver, tmp_path: Path
) -> None:
    keep(inside, "roi")
    keep(inside, "roi", node="n2")
    assert shown(inside, "roi", "node=n2") == "n2 roi 0"
    assert refused(inside, "roi")[0] == 409
    (tmp_path / "tokens").write_text("n1\tone\noperator\tboss\n")
    inside.access = Access(tmp_path / "tokens")
    assert shown(inside, "roi", "node=n2", authorization="Bearer one") == "n1 roi 0"
    assert shown(inside, "roi", "node=n2", authorization="Bearer boss") == "n2 roi 0"
    assert refused(inside, "roi")[0] == 401


def test_a_picture_of_a_stated_revision_never_changes(inside: Receiver) -> None:
    key = keep(inside, "roi")
    same = {
        "etag": f'"{key}"',
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "same-origin",
        "content-disposition": "inline",
    }
    for query, kept in (
        ("", "private, no-cache"),
        ("revision=0", "private, max-age=31536000, immutable"),
    ):
        told = ask(inside, "roi", query).headers
        assert {name: told[name] for name in same} == same
        assert told["cache-control"] == kept
        again = ask(inside, "roi", query, if_none_match=f'"x", W/"{key}"')
        assert (again.status_code, again.body) == (304, b"")
        assert again.headers["cache-control"] == kept
    assert ask(inside, "roi", if_none_match='"x"').status_code == 200


def told(receiver: Receiver, work: Any) -> Any:
    def asked(connection: Connection) -> Any:
        return work(connection, alerts.find(connection, "e"))

    return asyncio.run(receiver.store.read(asked))


def test_an_event_tells_what_its_visuals_show_and_when_they_came(inside: Receiver) -> None:
    keep(inside, "roi")
    keep(inside, "box", 1, complete=False)
    keep(inside, "code", 1)
    assert told(inside, pictures.details) == {
        "visual_revisions": {"roi": 0},
        "question_revisions": {"code": 1},
    }
    row = asyncio.run(inside.store.read(lambda c: uploads.shown(c, 1, "roi")))
    assert row is not None
    assert told(inside, page.visuals_at) == {"visuals_at": {"roi": row.written_at}}
    (route,) = pictures.router(inside).routes
    assert route.methods == {"GET", "HEAD"}  # type: ignore[attr-defined]
    page.router(inside)
    assert inside.details == [pictures.details, page.visuals_at]
