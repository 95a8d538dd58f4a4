"""`/v1/events/ID/visuals/KIND`: the pictures that came in (`visuals`) are shown."""

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Connection, Row

from dat_runtime.cloud import tus, uploads
from dat_runtime.cloud.events import event_row
from dat_runtime.cloud.upload_files import Files
from dat_runtime.fields import shown

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver


def router(receiver: "Receiver") -> APIRouter:
    """The route of this module."""
    receiver.details.append(details)
    routes = APIRouter()
    show = Pictures(receiver).show
    routes.add_api_route("/v1/events/{id}/visuals/{kind}", show, methods=["GET", "HEAD"])
    return routes


def details(connection: Connection, event: Row[Any]) -> dict[str, Any]:
    """Which revision of the event each visual shows, and each question that waits is about.

    The boxes of another may not fit it.
    """

    def of(kinds: tuple[str, ...]) -> dict[str, int]:
        found = {kind: uploads.shown(connection, event.number, kind) for kind in kinds}
        return {kind: row.revision for kind, row in found.items() if row}

    return {"visual_revisions": of(tus.KINDS), "question_revisions": of(tus.QUESTIONS)}


class Pictures:
    """The visuals that are whole."""

    def __init__(self, receiver: "Receiver"):
        self._receiver = receiver
        self._files = Files(receiver.folder / "visuals")

    async def show(self, request: Request, id: str, kind: str) -> Response:
        """The picture: that of the latest revision, or of the one that `?revision=` names."""
        who = self._receiver.access.who(request)
        node = who.node or request.query_params.get("node")
        revision = _revision(request.query_params.get("revision"))

        def work(connection: Connection) -> Row[Any] | None:
            event = event_row(connection, id, node)
            if kind not in tus.KINDS:
                return None
            return uploads.shown(connection, event.number, kind, revision)

        row = await self._receiver.store.read(work)
        path = None if row is None else self._files.path(row.key)
        if row is None or path is None or not path.is_file():
            raise HTTPException(404, f"no visual {shown(kind)} of this event")
        headers = _picture_headers(row, revision)
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        return FileResponse(path, headers=headers, media_type="image/jpeg")


def _revision(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise HTTPException(400, "revision: expected a whole number")
    return int(text)


def _picture_headers(row: Row[Any], revision: int | None) -> dict[str, str]:
    """A picture of a stated revision never changes; the latest one has to be asked for."""
    kept = "private, no-cache" if revision is None else "private, max-age=31536000, immutable"
    return {
        "Cache-Control": kept,
        "ETag": f'"{row.key}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Disposition": "inline",
    }
