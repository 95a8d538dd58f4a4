"""`/healthz`, `/readyz` and `/metrics`, asked without a network."""

import asyncio
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI

from dat_runtime.cloud import health
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.store import StoreError


class Store:
    """One that keeps something or not, and counts how often it was asked."""

    def __init__(self) -> None:
        self.problem = ""
        self.asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.problem:
            raise StoreError(self.problem)


def asked(receiver: Receiver, *paths: str) -> list[httpx.Response]:
    application = FastAPI()
    application.include_router(health.router(receiver))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [await client.request(*path.split()) for path in paths]

    return asyncio.run(ask())


def test_each_of_them_answers(tmp_path: Path) -> None:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
    try:
        paths = ("GET /healthz", "GET /readyz", "GET /metrics", "HEAD /readyz")
        well, ready, metrics, head = asked(receiver, *paths)
        assert (well.text, ready.text) == ("ok\n", "ready\n")
        assert b"dat_receiver_commit_seconds_bucket" in metrics.content
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert {answer.status_code for answer in (well, ready, metrics, head)} == {200}
        receiver.access.problem = "an older file holds"
        assert asked(receiver, "GET /readyz")[0].text == "ready\nan older file holds\n"
    finally:
        receiver.store.close()


def test_an_answer_stands_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.25]  # soon after the machine began
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path)
    receiver.store.close()
    store = Store()
    receiver.store = store  # type: ignore[assignment]
    ready = health._Ready(receiver)

    def problem(later: float) -> str:
        now[0] += later
        return asyncio.run(ready.problem())

    assert (problem(0), store.asked) == ("", 1)
    store.problem = "full"
    assert (problem(0.5), store.asked) == ("", 1)
    assert (problem(0.5), store.asked) == ("full", 2)
    store.problem = ""
    assert (problem(0.75), store.asked) == ("full", 2)
    assert (problem(0.25), store.asked) == ("", 3)
