"""The receiver as one ASGI application: its parts put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import ASGIApp

from dat_runtime.cloud.guard import Guard, answers
from dat_runtime.cloud.intake import intake
from dat_runtime.cloud.receiver import Receiver, parts


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
    for part in parts():
        application.include_router(part.router(receiver))
    return Guard(
        application, intake(receiver), receiver.metrics, only_local=receiver.access.is_open
    )
