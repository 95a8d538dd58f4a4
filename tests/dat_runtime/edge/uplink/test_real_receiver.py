"""The uplink against `dat-runtime receive` in a process of its own."""

import json
import urllib.request
from dataclasses import replace

import pytest

from dat_runtime.edge.uplink.settings import UplinkSettings
from export.live.processes import receiver
from tests.dat_runtime.cloud.evidence import jpeg
from tests.dat_runtime.edge.uplink.events import event
from tests.dat_runtime.edge.uplink.test_uplink import Node
from tests.dat_runtime.waiting import until

TOKEN = "s" * 40


def got(process, path):
    request = urllib.request.Request(process.url + path)
    request.add_header("authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.read()


def seen(id, picture, revision=0):
    return replace(event(id, revision=revision), roi=picture, boxed=picture + b"more")


@pytest.mark.slow
def test_alerts_visuals_revisions_and_status_survive_a_kill_of_the_receiver(tmp_path):
    (tmp_path / "tokens").write_text(f"n1\t{TOKEN}\n")
    (tmp_path / "token").write_text(TOKEN)
    store = f"sqlite:///{tmp_path}/events.sqlite"
    options = ("--tokens", str(tmp_path / "tokens"))
    pictures = {f"e{i}": jpeg(64, 48, seed=i) for i in range(6)}
    with receiver(store, *options) as first:
        address = first.url.removeprefix("http://")
        way = UplinkSettings(first.url, tmp_path / "token", 1e6)
        with Node(tmp_path, way) as node:
            for id in ("e0", "e1", "e2"):
                node.happens(seen(id, pictures[id]))
            until(lambda: node.is_through)
            assert json.loads(got(first, "/v1/nodes"))
            first.kill()
            for id in ("e3", "e4", "e5"):
                node.happens(seen(id, pictures[id]))
            node.happens(seen("e0", pictures["e3"], revision=1))
            until(lambda: not node.uplink.state.connected)
            with receiver(store, *options, listen=address) as second:
                until(lambda: node.is_through)
                told = json.loads(got(second, "/v1/events?limit=100"))["events"]
                assert sorted(one["id"] for one in told) == sorted(pictures)
                for id, picture in pictures.items():
                    expected = pictures["e3"] if id == "e0" else picture
                    assert got(second, f"/v1/events/{id}/visuals/roi") == expected
            assert not any(name.endswith("_refused") for name, _ in node.counts.snapshot())
