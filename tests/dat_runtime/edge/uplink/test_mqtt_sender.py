"""What a node hands to a broker, message by message, over a connection that the test answers."""

import asyncio
from dataclasses import dataclass, field

import pytest

from dat_runtime.broker import Broker
from dat_runtime.edge.uplink import mqtt as module
from dat_runtime.edge.uplink.mqtt import MqttSender
from dat_runtime.edge.uplink.sender import (
    AccessError,
    Answer,
    OutgoingAlert,
    OutgoingVisual,
    Progress,
    RefusedError,
    SendError,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.mqtt import MqttError

ROOM = 300_000 - len("dat/n1/alerts") - 16 - 128
"""Bytes of an alert, where the broker takes packets of any size."""


class Line:
    """A connection; it answers each message with the next code of the test, 0 when none is left.

    `None` leaves a message without an answer.
    """

    def __init__(self, wires, broker, name):
        self.wires, self.broker, self.name = wires, broker, name
        self.largest = wires.largest
        self.lost = asyncio.get_running_loop().create_future()
        self.acknowledged, self.in_flight, self.round_trip, self.closed = 0, 7, 0.5, 0

    async def publish(self, topic, payload, content_type="", **texts):
        self.wires.sent.append((self.name, topic, payload, content_type, texts))
        answer = asyncio.get_running_loop().create_future()
        code = self.wires.codes.pop(0) if self.wires.codes else 0
        if code is not None:
            answer.set_result(code)
            self.acknowledged += len(payload)
        return answer

    async def accepted(self, answer):
        code = await answer
        if code:
            raise MqttError(f"code {code:#x}", code)

    async def close(self):
        self.closed += 1


@dataclass
class Wires:
    largest: int | None = None
    codes: list = field(default_factory=list)
    sent: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    kernel: object = None
    refuse: object = None

    async def open(self, broker, name, prepare):
        if self.refuse is not None:
            raise self.refuse
        prepare("a socket")
        self.lines.append(Line(self, broker, name))
        return self.lines[-1]


@pytest.fixture
def wires(monkeypatch):
    made = Wires()
    monkeypatch.setattr(module, "Connection", made)
    monkeypatch.setattr(module.tcp, "prepare", lambda socket: made.sent.append(socket))
    monkeypatch.setattr(module.tcp, "progress", lambda socket: {"a socket": made.kernel}[socket])
    return made


def run(work, url="mqtt://127.0.0.1", **settings):
    """What work with a sender of node n1 gives, or the error that it raises."""

    async def go():
        sender = MqttSender(UplinkSettings(url, settings.pop("token", None), 1e6, **settings), "n1")
        try:
            return await work(sender)
        except (SendError, RefusedError) as error:
            return error
        finally:
            await sender.close()

    return asyncio.run(go())


def alert(size, id="a"):
    return OutgoingAlert(id, b"x" * size)


def messages(wires):
    return [sent for sent in wires.sent if sent != "a socket"]


def test_alerts_status_and_visuals_go_to_their_topics_over_two_connections(wires):
    async def work(sender):
        answers = await sender.send_alerts([alert(3), alert(4)])
        await sender.send_status(b"{}")
        visual = OutgoingVisual("a+b@c:d~e", "roi", 2, revision=4)
        return answers, await sender.send_visual(visual, pieces(b"xy"))

    assert run(work) == ([Answer(True), Answer(True)], 2)
    alerts, json = "dat/n1/alerts", "application/cloudevents+json"
    told = {"offset": "0", "length": "2", "revision": "4"}
    assert wires.sent == [
        "a socket",
        ("dat-n1-alerts", alerts, b"xxx", json, {}),
        ("dat-n1-alerts", alerts, b"xxxx", json, {}),
        ("dat-n1-alerts", "dat/n1/status", b"{}", "application/json", {}),
        "a socket",
        ("dat-n1-visuals", "dat/n1/visuals/a%2Bb@c:d~e/roi", b"xy", "image/jpeg", told),
    ]
    assert [line.closed for line in wires.lines] == [1, 1]


def pieces(*contents):
    """Gives these pieces, whatever the offset; it notes that."""

    def begin(offset):
        begin.offsets.append(offset)

        async def give():
            for content in contents:
                yield content

        return give()

    begin.offsets = []
    return begin


def test_a_broker_hears_who_we_are_and_a_token_may_change(wires, tmp_path):
    token = tmp_path / "token"
    token.write_text("one")

    async def work(sender):
        await sender.send_status(b"{}")
        wires.lines[-1].lost.set_result("gone")
        token.write_text("two")
        await sender.send_status(b"{}")

    files = {"certificate": tmp_path / "c.pem", "authorities": tmp_path / "a.pem"}
    assert run(work, "mqtts://b.example:8884", token=token, **files) is None
    same = (tmp_path / "c.pem", tmp_path / "a.pem")
    assert [line.broker for line in wires.lines] == [
        Broker("b.example", 8884, True, "n1", secret, *same) for secret in ("one", "two")
    ]
    assert run(work) is None
    assert wires.lines[-1].broker == Broker("127.0.0.1", 1883, False)


@pytest.mark.parametrize(
    ("largest", "room"), [(None, ROOM), (0, ROOM), (10**6, ROOM), (1_000, 1_000 - 13 - 16 - 128)]
)
def test_an_alert_that_no_packet_holds_is_refused_and_the_others_go(wires, largest, room):
    wires.largest = largest

    async def work(sender):
        return await sender.send_alerts([alert(room + 1), alert(room)])

    words = f"the broker takes messages of at most {room:,} bytes"
    assert run(work) == [Answer(False, words), Answer(True)]
    assert [len(sent[2]) for sent in messages(wires)] == [room]


@pytest.mark.parametrize(("largest", "fits"), [(158, True), (157, False)])
def test_a_broker_that_takes_no_packet_of_ours_is_named(wires, largest, fits):
    wires.largest = largest

    async def work(sender):
        return await sender.send_alerts([alert(1)])

    if fits:
        assert run(work) == [Answer(True)]
    else:
        error = run(work)
        assert type(error) is SendError
        assert str(error) == "the broker takes packets of at most 157 bytes"


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_what_a_broker_will_never_take_is_refused_in_its_words(wires, code):
    async def work(sender):
        return await sender.send_alerts([alert(1), alert(2)])

    wires.codes = [code, 0]
    assert run(work) == [Answer(False, f"code {code:#x}"), Answer(True)]
    wires.codes = [code]
    error = run(lambda sender: sender.send_visual(OutgoingVisual("a", "roi", 1), pieces(b"x")))
    assert (type(error), str(error)) == (RefusedError, f"code {code:#x}")


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_a_status_or_a_connection_that_is_refused_is_a_failure_of_the_way(wires, code):
    """Of an alert or a visual it says nothing; as their refusal it ended the uplink's lanes."""
    wires.codes = [code]
    error = run(lambda sender: sender.send_status(b"{}"))
    assert (type(error), str(error)) == (SendError, f"code {code:#x}")
    wires.refuse = MqttError("no connection", code)
    for work in (
        lambda sender: sender.send_alerts([alert(1)]),
        lambda sender: sender.send_visual(OutgoingVisual("a", "roi", 1), pieces(b"x")),
    ):
        error = run(work)
        assert (type(error), str(error)) == (SendError, "no connection")


@pytest.mark.parametrize(
    ("code", "kind"), [(0x10, SendError), (0x97, SendError), (0x87, AccessError)]
)
def test_what_a_broker_may_take_later_is_an_error(wires, code, kind):
    works = [
        lambda sender: sender.send_alerts([alert(1), alert(2)]),
        lambda sender: sender.send_status(b"{}"),
        lambda sender: sender.send_visual(OutgoingVisual("a", "roi", 1), pieces(b"x")),
    ]
    for work in works:
        wires.codes = [code]
        error = run(work)
        assert (type(error), str(error)) == (kind, f"code {code:#x}")


def test_a_broker_that_cannot_be_reached_or_does_not_know_us_is_an_error(wires):
    wires.refuse = MqttError("127.0.0.1:1883: refused")
    for work in (
        lambda sender: sender.send_alerts([alert(1)]),
        lambda sender: sender.send_visual(OutgoingVisual("a", "roi", 1), pieces(b"x")),
    ):
        error = run(work)
        assert (type(error), str(error)) == (SendError, "127.0.0.1:1883: refused")
    wires.refuse = MqttError("127.0.0.1:1883: not authorized", 0x87)
    assert type(run(lambda sender: sender.send_status(b"{}"))) is AccessError


@pytest.mark.parametrize(
    ("what", "work"),
    [
        ("the alerts", lambda sender: sender.send_alerts([alert(1)])),
        ("the status", lambda sender: sender.send_status(b"{}")),
    ],
)
def test_what_is_not_answered_is_given_up_in_time(wires, monkeypatch, what, work):
    monkeypatch.setattr(module, "DEADLINE", 0.02)
    wires.codes = [None]
    assert str(run(work)) == f"{what}: nothing came back in 0.02 s"


def test_a_connection_that_does_not_open_is_given_up_in_time(wires, monkeypatch):
    monkeypatch.setattr(module, "DEADLINE", 0.02)

    async def hang(broker, name, prepare):
        await asyncio.sleep(20)

    wires.open = hang
    error = run(lambda sender: sender.send_visual(OutgoingVisual("a", "roi", 1), pieces(b"x")))
    assert str(error) == "a connection: nothing came back in 0.02 s"


def test_a_piece_that_no_packet_holds_is_cut_and_each_says_where_it_belongs(wires):
    topic = "dat/n1/visuals/a/roi"
    wires.largest = len(topic) + 16 + 128 + 10
    visual = OutgoingVisual("a", "roi", 24)
    there = run(lambda sender: sender.send_visual(visual, pieces(b"0123456789abc", b"d" * 11)))
    assert there == 24
    assert [(sent[2], sent[4]["offset"]) for sent in messages(wires)] == [
        (b"0123456789", "0"),
        (b"abc", "10"),
        (b"d" * 10, "13"),
        (b"d", "23"),
    ]


def test_a_question_goes_with_its_prompt_which_takes_room_too(wires):
    prompt = "Bild 28 x 28: Schärfe."
    wires.largest = len("dat/n1/visuals/a/features") + 16 + 128 + len(prompt.encode()) + 10
    question = OutgoingVisual("a", "code", 12, revision=2, question=("features", prompt))
    assert run(lambda sender: sender.send_visual(question, pieces(b"x" * 12))) == 12
    same = {"length": "12", "revision": "2", "prompt": prompt}
    media, topic = "application/octet-stream", "dat/n1/visuals/a/features"
    assert messages(wires) == [
        ("dat-n1-visuals", topic, b"x" * 10, media, {"offset": "0"} | same),
        ("dat-n1-visuals", topic, b"x" * 2, media, {"offset": "10"} | same),
    ]


def test_a_visual_goes_on_where_the_broker_answered_without_a_gap(wires):
    begun = OutgoingVisual("a", "roi", 9, begun=True)
    give = pieces(b"xxx")

    async def work(sender):
        wires.codes = [0, 0x97, 0]
        with pytest.raises(SendError):
            await sender.send_visual(begun, pieces(b"aa", b"bb", b"cc"))
        there = [await sender.send_visual(begun, give)]
        there.append(await sender.send_visual(begun, give))
        there.append(await sender.send_visual(OutgoingVisual("a", "roi", 9), give))
        there.append(await sender.send_visual(begun, give))
        other = OutgoingVisual("a", "roi", 9, begun=True, revision=1)
        there.append(await sender.send_visual(other, give))
        return there

    assert run(work) == [5, 8, 3, 6, 3]
    # Where it begins anew, what had arrived of it before does not count.
    assert give.offsets == [2, 5, 0, 3, 0]


def test_a_visual_that_is_whole_and_one_of_which_nothing_arrived_are_forgotten(wires):
    begun = OutgoingVisual("a", "roi", 3, begun=True)
    give = pieces(b"xxx")

    async def work(sender):
        await sender.send_visual(begun, give)
        await sender.send_visual(begun, give)
        wires.codes = [0x97]
        with pytest.raises(SendError):
            await sender.send_visual(begun, give)
        assert sender._arrived == {}

    run(work)
    assert give.offsets == [0, 0, 0]


def test_of_very_many_that_have_begun_the_oldest_begins_anew(wires, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BEGUN", 2)

    async def work(sender):
        for id in "abc":
            await sender.send_visual(OutgoingVisual(id, "roi", 9), pieces(b"x"))
        return list(sender._arrived)

    assert run(work) == [("b", "roi", 0), ("c", "roi", 0)]


def test_a_connection_that_is_lost_ends_a_visual_that_waits_for_its_lane(wires):
    class Waiting:
        ended = 0

        async def give(self):
            try:
                yield b"xx"
                await asyncio.sleep(20)
            finally:
                self.ended += 1

    waiting = Waiting()

    async def work(sender):
        visual = OutgoingVisual("a", "roi", 9, begun=True)
        sending = asyncio.ensure_future(sender.send_visual(visual, lambda at: waiting.give()))
        for _ in range(10):
            await asyncio.sleep(0)
        wires.lines[-1].lost.set_result("the link is gone")
        with pytest.raises(SendError, match=r"^the link is gone$"):
            await sending
        assert waiting.ended == 1
        give = pieces(b"x")
        await sender.send_visual(visual, give)
        return give.offsets

    assert run(work) == [2]
    assert len(wires.lines) == 2


def test_bytes_of_connections_that_ended_count_and_the_kernel_knows_the_round_trip(wires):
    async def work(sender):
        looks = [sender.progress()]
        await sender.send_alerts([alert(100)])
        looks.append(sender.progress())
        wires.lines[-1].lost.set_result("gone")
        await sender.send_alerts([alert(10)])
        wires.kernel = module.tcp.TcpProgress(0, 0, 0, 0, 0.25, 0, 0)
        looks.append(sender.progress())
        wires.kernel = module.tcp.TcpProgress(0, 0, 0, 0, 0.0, 0, 0)
        await sender.send_visual(OutgoingVisual("a", "roi", 1), pieces(b"x"))
        looks.append(sender.progress())
        await sender.close()
        looks.append(sender.progress())
        return looks

    assert run(work) == [
        Progress(0, 0, None),
        Progress(100, 7, 0.5),
        Progress(110, 7, 0.25),
        Progress(111, 14, 0.5),
        Progress(111, 0, None),
    ]
    assert [line.closed for line in wires.lines] == [1, 1, 1]


def test_two_that_want_a_connection_at_once_share_one(wires):
    async def work(sender):
        await asyncio.gather(*(sender.send_status(b"{}") for _ in range(3)))

    run(work)
    assert len(wires.lines) == 1
