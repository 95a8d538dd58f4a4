"""The receiver as one ASGI application: its parts put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp

from dat_runtime.cloud import (
    bridge,
    events,
    finishing,
    health,
    nodes,
    outgoing,
    page,
    pictures,
    retention,
    review,
    session,
    visuals,
)
from dat_runtime.cloud.access import Access
from dat_runtime.cloud.guard import Guard, answers
from dat_runtime.cloud.intake import intake
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.store import Store

PARTS = (
    events,
    session,
    health,
    visuals,
    pictures,
    outgoing,
    finishing,
    bridge,
    nodes,
    retention,
    review,
    page,
)
"""Each has `router(receiver) -> APIRouter`, and maybe tables, which are in `metadata` once it is
imported."""


def opened(store: str, folder: Path, tokens: Path | None = None) -> Receiver:
    """A receiver whose store is open, with the tables of every part.

    Raises:
        StoreError: the store cannot be opened.
        ConfigError: the tokens cannot be read.
    """
    access = Access(tokens)
    return Receiver(Store(store), access, folder)


def app(receiver: Receiver) -> ASGIApp:
    """The application, with every part. It closes the store at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(task()) for task in receiver.tasks if receiver.runs_tasks]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            receiver.store.close()

    application = FastAPI(
        lifespan=lifespan,
        openapi_url=None,  # its pages load scripts from elsewhere
        redirect_slashes=False,  # behind a proxy it would lead from https to http
        exception_handlers=answers(),
    )
    for part in PARTS:
        application.include_router(part.router(receiver))
    return Guard(
        application, intake(receiver), receiver.metrics, only_local=receiver.access.is_open
    )
