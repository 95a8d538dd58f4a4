"""`/healthz`, `/readyz` and `/metrics`: for whoever watches the receiver; no token is asked for."""

import time
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from dat_runtime.cloud.store import StoreError

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

ASKED = ["GET", "HEAD"]
"""Load balancers may ask with HEAD."""

TRUSTED_FOR = 1.0
"""Seconds for which an answer of `/readyz` stands: asking it often writes no more."""


def router(receiver: "Receiver") -> APIRouter:
    """The routes of this module."""
    routes = APIRouter()
    ready = _Ready(receiver)

    @routes.api_route("/healthz", methods=ASKED)
    async def healthz() -> Response:
        """The process answers."""
        return Response("ok\n", media_type="text/plain")

    @routes.api_route("/readyz", methods=ASKED)
    async def readyz() -> Response:
        """An alert that came now would be kept; otherwise 503 and why not."""
        problem = await ready.problem()
        note = "\n".join(["ready", receiver.access.problem]).strip()
        return Response(f"{problem or note}\n", 503 if problem else 200, media_type="text/plain")

    @routes.api_route("/metrics", methods=ASKED)
    async def metrics() -> Response:
        return Response(receiver.metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes


class _Ready:
    def __init__(self, receiver: "Receiver"):
        self._receiver = receiver
        self._at = -TRUSTED_FOR
        self._problem = ""

    async def problem(self) -> str:
        """Why nothing can be kept; "" when it can: something was committed just now."""
        if time.monotonic() - self._at >= TRUSTED_FOR:
            self._at = time.monotonic()
            try:
                await self._receiver.store.check()
                self._problem = ""
            except StoreError as error:
                self._problem = str(error)
        return self._problem
