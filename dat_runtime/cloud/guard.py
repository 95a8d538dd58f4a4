"""What holds for every request: whom it may be addressed to, and how a refusal is told."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dat_runtime.cloud.metrics import Metrics
from dat_runtime.cloud.store import StoreBusy, StoreError
from dat_runtime.network import is_loopback

_READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Around the application.

    A receiver without tokens trusts whoever can reach loopback, and a browser on that machine can,
    on behalf of any page it shows. So there a request has to name loopback as its host (a foreign
    name that was made to resolve to it is refused), and may change nothing on behalf of another
    origin.

    Args:
        intake: takes `POST /v1/events`, past the application.
        only_local: whether no token is asked for.
    """

    def __init__(self, application: ASGIApp, intake: ASGIApp, metrics: Metrics, only_local: bool):
        self._application = application
        self._intake = intake
        self._metrics = metrics
        self._only_local = only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        began = False

        async def counted(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"].append((b"x-content-type-options", b"nosniff"))
                if message["status"] >= 400:
                    self._metrics.refused.labels(str(message["status"])).inc()
            await send(message)

        try:
            await self._answer(scope, receive, counted)
        except asyncio.CancelledError:  # the receiver ends, and this one takes too long
            if not began:
                await told(StoreError("the receiver is ending"))(scope, receive, counted)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._only_local and (reason := _foreign(scope)):
            await refusal(403, reason)(scope, receive, send)
        elif scope["path"] == "/v1/events" and scope["method"] == "POST":
            await self._intake(scope, receive, send)
        elif scope["path"] == "/v1/events" and scope["method"] != "GET":
            # The application knows of GET only.
            answer = refusal(405, "Method Not Allowed", {"Allow": "GET, POST"})
            await answer(scope, receive, send)
        else:
            await self._application(scope, receive, send)


def _foreign(scope: Scope) -> str:
    """Why a request to an open receiver is not from this machine's own programs; "" if it is."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    if host and not is_loopback(_without_port(host)):
        return f"this receiver has no tokens and answers to loopback only, not to {host[:80]}"
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and scope["method"] not in _READING and origin.partition("://")[2] != host:
        return f"a page of {origin[:80]} may change nothing here"
    return ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def json_answer(value: Any, status: int = 200) -> Response:
    """A value as JSON, which nobody between keeps."""
    content = json.dumps(value, separators=(",", ":"))
    return Response(content, status, {"Cache-Control": "no-store"}, "application/json")


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal in words (RFC 9457)."""
    content = json.dumps({"status": status, "detail": detail})
    return Response(content, status, headers, "application/problem+json")


def told(error: HTTPException | StoreError) -> Response:
    """An error that a route raises, as it is answered."""
    if isinstance(error, HTTPException):
        return refusal(error.status_code, str(error.detail), error.headers)
    seconds = "1" if isinstance(error, StoreBusy) else "5"
    return refusal(503, str(error), {"Retry-After": seconds})


Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def answers() -> dict[int | type[Exception], Handler]:
    """`told`, as the application takes it."""

    async def handle(_: Request, error: HTTPException | StoreError) -> Response:
        return told(error)

    return {HTTPException: handle, StoreError: handle}
