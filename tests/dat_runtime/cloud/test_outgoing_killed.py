"""A receiver that is killed while alerts go on: each of them arrives, and the same id says so."""

import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from export.live import processes
from tests.dat_runtime.cloud.conftest import alert
from tests.dat_runtime.cloud.test_outgoing import listening, say


@pytest.mark.slow
def test_sigkill_loses_no_alert_on_its_way_to_a_webhook(tmp_path: Path) -> None:
    accepted: set[str] = set()
    headers = {"content-type": "application/cloudevents+json"}
    store = f"sqlite:///{tmp_path}/r.db"
    with listening(say(204)) as hook, httpx.Client() as client, ExitStack() as running:
        for round in range(2):
            receiver = running.enter_context(processes.receiver(store, "--webhook", hook.url))
            for n in range(60):
                event = alert(f"r{round}-{n}")
                answer = client.post(f"{receiver.url}/v1/events", json=event, headers=headers)
                assert answer.status_code == 201
                accepted.add(event["id"])
            receiver.kill()
        running.enter_context(processes.receiver(store, "--webhook", hook.url))
        deadline = time.monotonic() + 20
        while accepted - set(hook.ids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert set(hook.ids()) == accepted
        again = [told["webhook-id"] for told in hook.headers]
        assert set(again) == {f"n1/{id}/0" for id in accepted}
