"""The receiver as one ASGI application: what its parts share, and the parts put together."""

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from sqlalchemy import Connection

from dat_runtime.cloud.access import Access
from dat_runtime.cloud.metrics import Metrics
from dat_runtime.cloud.store import Store

if TYPE_CHECKING:
    from dat_runtime.cloud.alerts import Received

PARTS = ("events", "visuals", "nodes", "review", "page")
"""Modules of this package that have `router(receiver) -> APIRouter`, and tables of their own."""

Recorded = Callable[[Connection, "Sequence[Received]"], None]
"""Called with new alerts and new revisions, inside the transaction that keeps them."""


@dataclass
class Receiver:
    """What all parts of one worker share.

    Attributes:
        store: the database.
        access: who may do what.
        folder: where files lie, such as visuals; each part makes its own folder in it.
        metrics: what is counted.
        recorded: see `Recorded`; a part adds its function in `router`.
        tasks: coroutine functions that a part adds in `router`; they run as long as the worker
            does and are cancelled at its end.
    """

    store: Store
    access: Access
    folder: Path
    metrics: Metrics = field(default_factory=Metrics)
    recorded: list[Recorded] = field(default_factory=list)
    tasks: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)


def opened(store: str, folder: Path, tokens: Path | None = None) -> Receiver:
    """A receiver whose store is open, with the tables of every part.

    Raises:
        StoreError: the store cannot be opened.
        ConfigError: the tokens cannot be read.
    """
    parts()  # their tables belong to the metadata from here on
    folder.mkdir(parents=True, exist_ok=True)
    return Receiver(Store(store), Access(tokens), folder)


def parts() -> list[ModuleType]:
    """The modules of `PARTS` that there are."""
    names = [f"{__package__}.{name}" for name in PARTS]
    found = [import_module(name) for name in names if importlib.util.find_spec(name)]
    return [module for module in found if hasattr(module, "router")]


def app(receiver: Receiver) -> FastAPI:
    """The application, with every part. It closes the store at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(task()) for task in receiver.tasks]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            receiver.store.close()

    application = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    for part in parts():
        application.include_router(part.router(receiver))
    return application
