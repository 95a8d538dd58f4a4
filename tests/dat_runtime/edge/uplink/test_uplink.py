import json
import threading
import time

import pytest

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import Spool
from dat_runtime.edge.uplink import uplink
from dat_runtime.edge.uplink.http import HttpSender
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.uplink import Uplink
from dat_runtime.errors import ConfigError
from tests.dat_runtime.edge.uplink import small_receiver as small
from tests.dat_runtime.edge.uplink.events import event, fill
from tests.dat_runtime.edge.uplink.small_receiver import SmallReceiver
from tests.dat_runtime.waiting import until


@pytest.fixture
def receiver():
    with SmallReceiver() as running:
        yield running


class Node:
    """A spool and an uplink, as the node has them."""

    def __init__(self, folder, *ways, **options):
        self.counts = Counts()
        self.spool = Spool(folder / "spool.sqlite", 50_000_000, 5_000_000, self.counts)
        settings = [way if isinstance(way, UplinkSettings) else to(way) for way in ways]
        self.uplink = Uplink(settings, self.spool, self.counts, "n1", **options)

    def __enter__(self):
        self.uplink.start()
        return self

    def __exit__(self, *_):
        began = time.monotonic()
        self.uplink.stop(timeout=20.0)
        assert time.monotonic() - began < 20
        self.spool.close()

    def happens(self, event, offered=True):
        self.spool.put(event, "c1")
        if offered:
            self.uplink.offer(event, "c1")

    @property
    def is_through(self):
        state = self.uplink.state
        return not (state.alerts_waiting or state.visuals_waiting)


def to(url, **more):
    return UplinkSettings(url, None, 1e6, **more)


def test_an_alert_goes_at_once_and_its_visual_after_it(receiver, tmp_path):
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a"))
        until(lambda: "a/roi" in receiver.arrived)
        until(lambda: node.is_through)
        assert receiver.arrived["a"] < receiver.arrived["a/roi"]
        assert receiver.visuals["a/roi"] == fill("a", 5_000)
        assert node.uplink.state.connected
        assert node.uplink.state.last_acknowledged_at is not None
        until(lambda: not node.spool.waiting())
        assert node.counts.of("alerts_acknowledged") == 1
        assert node.counts.of("visuals_acknowledged", kind="roi") == 1


def test_an_event_without_visuals_is_an_alert_only(receiver, tmp_path):
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a", roi=None, boxed=0))
        until(lambda: node.is_through and "a" in receiver.arrived)
    assert receiver.visuals == {}


def test_a_visual_follows_its_alert_and_does_not_wait_for_the_answer(receiver, tmp_path):
    receiver.commit_seconds = 0.3
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a"))
        until(lambda: node.is_through and "a/roi" in receiver.arrived)
    alert, creation = (
        next(r for r in receiver.requests if r.target == target)
        for target in ("/v1/events", "/v1/visuals")
    )
    assert alert.at < creation.at < receiver.arrived["a"]
    assert receiver.order == ["a"]


def test_where_a_receiver_lets_no_visual_wait_it_goes_after_the_answer(receiver, tmp_path):
    receiver.patient = False
    receiver.commit_seconds = 0.3
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a"))
        until(lambda: node.is_through and "a/roi" in receiver.arrived)
    early, late = (r for r in receiver.requests if r.target == "/v1/visuals")
    assert early.headers["prefer"] == "wait=2"
    assert early.at < receiver.arrived["a"] <= late.at
    assert "prefer" not in late.headers
    assert not [name for name, _ in node.counts.snapshot() if "refused" in name]


@pytest.mark.parametrize(
    "faults",
    [
        [small.status(500)] * 3,
        [small.status(429, "retry-after: 0")] * 3,
        [small.status(408)] * 2,
        [small.close_in_the_middle] * 2,
        [small.close] * 3,
        [small.login_page] * 2,
        [small.endless],
        [small.only_1xx],
    ],
    ids=["500", "429", "408", "middle", "close", "login", "endless", "1xx"],
)
def test_no_fault_of_the_receiver_loses_an_event(receiver, tmp_path, faults):
    receiver.faults = faults
    with Node(tmp_path, receiver.url) as node:
        for i in range(5):
            node.happens(event(f"e{i}"))
        until(lambda: len(receiver.arrived) == 10)
        until(lambda: node.is_through)
    assert sorted(receiver.alerts) == [f"e{i}" for i in range(5)]
    assert len(receiver.order) == 5


def test_visuals_that_hang_hold_no_alert_back(receiver, tmp_path):
    receiver.always = ("/v1/visuals", small.drip)
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a"))
        until(lambda: "/v1/visuals" in [r.target for r in receiver.requests])
        for i in range(20):
            node.happens(event(f"e{i}"))
        until(lambda: len(receiver.order) == 21)
        assert node.uplink.state.visuals_waiting == 21


def test_a_receiver_that_asks_to_wait_is_left_alone_so_long(receiver, tmp_path):
    receiver.faults = [small.status(429, "retry-after: 1")]
    with Node(tmp_path, receiver.url) as node:
        until(lambda: receiver.statuses)  # the first thing that a node says
        node.happens(event("a"))
        until(lambda: "a" in receiver.arrived)
    posts = [r.at for r in receiver.requests if r.target == "/v1/events"]
    assert posts[1] - posts[0] >= 1.0
    assert len(posts) == 2


def test_an_alert_that_is_refused_is_set_aside_with_the_receivers_words(receiver, tmp_path):
    receiver.refused["bad"] = 409
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("bad"))
        node.happens(event("good"))
        until(lambda: "good/roi" in receiver.arrived and node.is_through)
        until(lambda: not node.spool.waiting())
        until(
            lambda: (
                [n for (name, _), n in node.counts.snapshot().items() if name == "alerts_refused"]
                == [1]
            )
        )
    assert "bad/roi" not in receiver.visuals


def test_a_node_that_is_not_known_keeps_everything_and_says_so(receiver, tmp_path):
    receiver.always = ("/", small.status(401))
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a"))
        until(lambda: "refuses this node" in node.uplink.state.problem)
        time.sleep(0.5)
        assert len(receiver.requests) <= 3
        assert not node.uplink.state.connected
        assert len(node.spool.waiting()) == 1


def test_a_newer_revision_replaces_an_older_one_that_waits(receiver, tmp_path):
    receiver.always = ("/", small.status(503))
    with Node(tmp_path, receiver.url) as node:
        for revision in range(3):
            node.happens(event("a", revision=revision, roi=1_000 + revision))
        before = len(receiver.requests)
        until(lambda: len(receiver.requests) > before + 1)  # what is under way now is the newest
        receiver.always = None
        until(lambda: "a/roi" in receiver.arrived and node.is_through)
    assert receiver.order == ["a"]
    assert receiver.visuals["a/roi"] == fill("a", 1_002)


def test_a_revision_after_the_alert_was_sent_updates_it(receiver, tmp_path):
    with Node(tmp_path, receiver.url) as node:
        node.happens(event("a", roi=None, boxed=0))
        until(lambda: node.is_through and "a" in receiver.arrived)
        node.happens(event("a", roi=None, boxed=0, revision=1))
        until(lambda: len(receiver.order) == 2)
        until(lambda: not node.spool.waiting())


def test_what_an_earlier_run_left_is_sent(receiver, tmp_path):
    with Node(tmp_path, receiver.url) as node:
        receiver.always = ("/", small.status(503))
        for i in range(3):
            node.happens(event(f"e{i}"))
        until(lambda: receiver.requests)
    receiver.always = None
    with Node(tmp_path, receiver.url) as node:
        until(lambda: len(receiver.arrived) == 6)
        until(lambda: node.is_through)
    assert len(receiver.order) == 3


def test_a_receiver_that_restarts_gets_everything_once(tmp_path):
    with SmallReceiver() as first:
        port, url = first.port, first.url
        with Node(tmp_path, url) as node:
            node.happens(event("a"))
            until(lambda: "a/roi" in first.arrived)
            until(lambda: node.is_through)
            first.end()
            for i in range(10):
                node.happens(event(f"e{i}"))
            until(lambda: not node.uplink.state.connected)
            with SmallReceiver(port=port) as second:
                until(lambda: len(second.arrived) == 20)
                until(lambda: node.is_through)
                assert sorted(second.order) == sorted(f"e{i}" for i in range(10))


def test_alerts_go_by_what_they_are_worth(receiver, tmp_path):
    receiver.always = ("/", small.status(503))
    with Node(tmp_path, receiver.url) as node:
        for i in range(30):
            node.happens(event(f"e{i:02}", priority=i / 30, roi=None, boxed=0))
        before = len(receiver.requests)
        # What was put together before the last of them is through: now all 30 are under way.
        until(lambda: len(receiver.requests) > before + 2)
        receiver.always = None
        until(lambda: len(receiver.arrived) == 30)
    assert receiver.order[0] == "e29"
    batches = [r for r in receiver.requests if r.headers["content-type"].endswith("batch+json")]
    assert batches
    # Requests that are under way together may come in any order, each is in order.
    for batch in batches:
        ids = [one["id"] for one in json.loads(batch.body)]
        assert ids == sorted(ids, reverse=True)


def test_the_clock_may_step_by_a_day(receiver, tmp_path):
    day = 86_400.0
    with Node(tmp_path, receiver.url) as node:
        for i, step in enumerate((0, day, -day, 0)):
            node.happens(event(f"e{i}", at=time.time() + step))
        until(lambda: len(receiver.arrived) == 8)


def test_on_a_metered_way_only_alerts_go(receiver, tmp_path):
    with Node(tmp_path, to(receiver.url, metered=True)) as node:
        node.happens(event("a"))
        until(lambda: "a" in receiver.arrived)
        time.sleep(0.3)
        assert node.uplink.state.visuals_waiting == 1
        assert receiver.visuals == {}
        assert node.spool.visual("a", "roi") == fill("a", 5_000)


def test_the_node_says_how_it_is_while_nothing_else_goes(receiver, tmp_path):
    with Node(tmp_path, receiver.url, status=lambda: {"schema": 1, "cameras": {"c": "running"}}):
        until(lambda: receiver.statuses)
    assert receiver.statuses[0]["cameras"] == {"c": "running"}


def test_a_status_that_is_too_large_is_cut_and_counted(receiver, tmp_path):
    with Node(tmp_path, receiver.url, status=lambda: {"cameras": {"c": "x" * 20_000}}) as node:
        until(lambda: receiver.statuses)
        assert node.counts.of("statuses_cut") == 1
    assert receiver.statuses[0]["cameras"] == {}


def test_a_status_that_cannot_be_made_holds_up_no_alert(receiver, tmp_path):
    def status():
        raise OSError(5, "Input/output error")  # of the disk on which the versions lie

    with Node(tmp_path, receiver.url, status=status) as node:
        until(lambda: receiver.statuses)
        assert node.counts.of("statuses_failed") == 1
        node.happens(event("a"))
        until(lambda: "a/roi" in receiver.arrived)
        assert not any(name == "uplink_faults" for name, _ in node.counts.snapshot())
    assert receiver.statuses[0]["cameras"] == {}


def test_a_defect_is_counted_and_ends_nothing(receiver, tmp_path, monkeypatch):
    send_status = HttpSender.send_status

    async def fails_once(self, status):
        monkeypatch.setattr(HttpSender, "send_status", send_status)
        raise KeyError("a defect")

    monkeypatch.setattr(HttpSender, "send_status", fails_once)
    with Node(tmp_path, receiver.url) as node:
        until(lambda: node.counts.of("uplink_faults", reason="KeyError") == 1)
        node.happens(event("a"))
        until(lambda: "a/roi" in receiver.arrived)


def test_offering_from_many_threads_loses_nothing(receiver, tmp_path):
    with Node(tmp_path, receiver.url) as node:

        def work(name):
            for i in range(20):
                node.happens(event(f"{name}-{i}", roi=200, boxed=400))

        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: len(receiver.arrived) == 200)
        until(lambda: node.is_through)
    assert len(receiver.order) == 100


def test_stopping_takes_no_longer_while_nothing_answers(tmp_path):
    async def silent(writer):
        await __import__("asyncio").sleep(60)

    with SmallReceiver() as receiver:
        receiver.always = ("/", silent)
        with Node(tmp_path, receiver.url) as node:
            node.happens(event("a"))
            until(lambda: receiver.requests)
            began = time.monotonic()
            node.uplink.stop(timeout=20.0)
            assert time.monotonic() - began < 10
            node.happens(event("b"))  # after the end it waits in the spool
            assert len(node.spool.waiting()) == 2


def test_what_is_wrong_with_the_settings_is_said_at_once(tmp_path):
    counts = Counts()
    spool = Spool(tmp_path / "s.sqlite", 50_000_000, 1_000_000, counts)
    for ways in ([], [to("nonsense")], [UplinkSettings("http://a.example", tmp_path / "t", 1e5)]):
        with pytest.raises(ConfigError):
            Uplink(ways, spool, counts, "n1")
    spool.close()


@pytest.mark.slow
def test_a_second_way_is_used_while_the_first_one_fails(receiver, tmp_path, monkeypatch):
    monkeypatch.setattr(uplink, "LEAVE_SECONDS", 1.0)
    monkeypatch.setattr(uplink, "RETURN_SECONDS", 2.0)
    monkeypatch.setattr(uplink, "LOOK_SECONDS", 0.1)
    with SmallReceiver() as first:
        url = first.url
    with Node(tmp_path, url, receiver.url) as node:
        node.happens(event("a"))
        until(lambda: "a/roi" in receiver.arrived, seconds=30)
        assert node.uplink.state.url == receiver.url
        with SmallReceiver(port=int(url.rsplit(":")[-1])) as back:
            until(lambda: node.uplink.state.url == url, seconds=45)
            node.happens(event("b"))
            until(lambda: "b/roi" in back.arrived)
