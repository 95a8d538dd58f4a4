"""The operator's page: static files without data, served as they lie in `page/`.

The page asks the same addresses as any other client, so whoever may not read sees an empty page.
"""

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection, Row

from dat_runtime.cloud import uploads
from dat_runtime.cloud.tus import KINDS

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = {
    # Nothing inline and nothing from elsewhere: a text from outside that slips in as HTML cannot
    # run, load or send anything.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Asked for again each time, which costs 200 bytes: after an update no old script meets a new
    # receiver.
    "Cache-Control": "no-cache",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def router(receiver: "Receiver") -> APIRouter:
    """`GET /` and the files that it needs, `GET /page/NAME`."""
    receiver.details.append(visuals_at)
    files = _files()
    routes = APIRouter()

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return _answer(files["index.html"], request)

    @routes.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def part(name: str, request: Request) -> Response:
        if name not in files:
            return Response("no such file", 404, _POLICY, "text/plain")
        return _answer(files[name], request)

    return routes


def visuals_at(connection: Connection, event: Row[Any]) -> dict[str, Any]:
    """When each visual of an event was whole: the page tells the delays."""
    found = {kind: uploads.shown(connection, event.number, kind) for kind in KINDS}
    return {"visuals_at": {kind: row.written_at for kind, row in found.items() if row}}


def _files() -> dict[str, _File]:
    """The files by name, read once: no name from outside ever becomes a path."""
    found = {}
    for file in resources.files(__package__).joinpath("page").iterdir():
        media_type = _TYPES.get("." + file.name.rpartition(".")[2])
        if media_type is not None:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[file.name] = _File(content, media_type, etag)
    return found


def _answer(file: _File, request: Request) -> Response:
    headers = {**_POLICY, "ETag": file.etag}
    known = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, 200, headers, file.media_type)
