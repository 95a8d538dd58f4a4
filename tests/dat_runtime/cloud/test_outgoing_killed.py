"""A receiver that is killed while alerts go on: each of them arrives, and the same id says so."""

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.dat_runtime.cloud.conftest import alert
from tests.dat_runtime.cloud.test_outgoing import listening, say
from tests.dat_runtime.cloud.test_visuals_killed import Process


@pytest.mark.slow
def test_sigkill_loses_no_alert_on_its_way_to_a_webhook(tmp_path: Path) -> None:
    accepted: set[str] = set()
    headers = {"content-type": "application/cloudevents+json"}
    with listening(say(204)) as hook, httpx.Client() as client:
        receiver = Process(tmp_path, "--webhook", hook.url)
        try:
            for round in range(2):
                receiver.start()
                for n in range(60):
                    event = alert(f"r{round}-{n}")
                    answer = client.post(f"{receiver.url}/v1/events", json=event, headers=headers)
                    assert answer.status_code == 201
                    accepted.add(event["id"])
                receiver.end(signal.SIGKILL)
            receiver.start()
            deadline = time.monotonic() + 20
            while accepted - set(hook.ids()) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            receiver.end(signal.SIGKILL)
        assert set(hook.ids()) == accepted
        again = [told["webhook-id"] for told in hook.headers]
        assert set(again) == {f"n1/{id}/0" for id in accepted}
