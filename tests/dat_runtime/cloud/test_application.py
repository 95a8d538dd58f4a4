"""The receiver's parts put together: what it is made of, and its tasks; nothing listens."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx
from fastapi import FastAPI

from dat_runtime.cloud.application import app, opened
from dat_runtime.cloud.guard import Guard
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.errors import ConfigError


def test_a_receiver_is_opened_with_its_store_its_tokens_and_its_folder(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("n1\tone\n")
    url = f"sqlite:///{tmp_path}/r.db"
    receiver = opened(url, tmp_path / "data", tmp_path / "tokens")
    assert (receiver.store.name, receiver.folder) == (url, tmp_path / "data")
    assert receiver.access.of("one") is not None
    receiver.store.close()
    receiver = opened(url, tmp_path)
    assert receiver.access.is_open
    receiver.store.close()
    with pytest.raises(ConfigError):
        opened(url, tmp_path, tmp_path / "none")


def lived(receiver: Receiver, tasks: list[str]) -> Guard:
    """Begin and end, with two tasks that say how they fare."""
    application: Any = app(receiver)

    async def works() -> None:
        tasks.append("works")
        try:
            await asyncio.Event().wait()
        finally:
            tasks.append("cancelled")

    async def fails() -> None:
        tasks.append("fails")
        raise ValueError("a defect")

    receiver.tasks[:] = [works, fails]

    async def scenario() -> None:
        inside = application._application
        async with inside.router.lifespan_context(inside):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(scenario())
    return application  # type: ignore[no-any-return]


def test_tasks_run_as_long_as_the_receiver_and_the_store_is_closed(tmp_path: Path) -> None:
    for runs, expected in ((True, ["works", "fails", "cancelled"]), (False, [])):
        receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
        receiver.runs_tasks = runs
        tasks: list[str] = []
        application = lived(receiver, tasks)
        assert tasks == expected
        assert receiver.store._closed
        inside: Any = application._application
        assert isinstance(inside, FastAPI)
        assert (inside.openapi_url, inside.router.redirect_slashes) == (None, False)


def test_every_part_answers_and_a_receiver_without_tokens_is_local(tmp_path: Path) -> None:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
    application = app(receiver)
    kinds: set[str] = set()

    async def scenario() -> dict[str, int]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport) as client:
            here = "http://127.0.0.1"
            answers = {
                asked: await client.request(*asked.split())
                for asked in (
                    f"GET {here}/",
                    f"GET {here}/healthz",
                    f"GET {here}/v1/events",
                    f"GET {here}/v1/session",
                    f"GET {here}/v1/nodes",
                    f"GET {here}/v1/reviews",
                    f"OPTIONS {here}/v1/visuals",
                    f"GET {here}/v1/events/e/visuals/roi",
                    f"GET {here}/v1/events/",
                    f"GET {here}/openapi.json",
                    f"POST {here}/v1/events",
                    "GET http://elsewhere/healthz",
                )
            }
            refused = [answer for answer in answers.values() if answer.status_code >= 400]
            kinds.update(answer.headers["content-type"] for answer in refused)
            return {asked: answer.status_code for asked, answer in answers.items()}

    told = list(asyncio.run(scenario()).values())
    assert kinds == {"application/problem+json"}
    assert told == [200] * 6 + [204] + [404] * 3 + [415, 403]
    receiver.store.close()
