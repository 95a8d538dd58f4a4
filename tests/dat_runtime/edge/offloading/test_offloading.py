"""What follows an alert: the code or the picture that the table has for the link of the moment."""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.draw import boxed_at, encode_seen
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node_settings import OffloadSettings
from dat_runtime.edge.offloading import offloading as module
from dat_runtime.edge.offloading.controller import Controller, usable_rows
from dat_runtime.edge.offloading.encoder import Encoder, patience
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.offloading.offloading import Frame, Offloading
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink.settings import UplinkState
from dat_runtime.errors import ConfigError, ModelError, OffloadError
from dat_runtime.event import event_of
from dat_runtime.files import write_json
from dat_runtime.offload import CodeUnit, pack, truncated, unpack
from dat_runtime.offload_table import Row, Table
from dat_runtime.prompt import task_prompt
from dat_runtime.types import Box, Detection, Size
from tests.dat_runtime.edge.offloading.small_codec import write_codec
from tests.dat_runtime.waiting import until

CAMERA, SEEN = Size(112, 112), Size(56, 56)
IMAGE = np.random.default_rng(4).integers(0, 256, (112, 112, 3), np.uint8)
FOUND = (Detection(Box(10, 10, 50, 60, CAMERA), "severe", 0.9),)
EDGE = Row("gate", "edge", 0, 0.2)
WEBP = Row("webp", "webp", 900, 0.5, quality=5)
CODE = Row("code", "code", 60, 0.8, offload_point=1, channels=2)
WIDE = Row("wide", "code", 600, 0.9, offload_point=1, channels=8)
LINK = UplinkState("http://x", True, 1_000.0, None, 0, 0, None)


def table(path: Path, codec: str, *rows: Row) -> Path:
    write_json(path, Table("count_em", "nothing", rows, codec).as_json())
    return path


class Rig:
    """A real encoder and controller, and what is kept."""

    def __init__(self, folder: Path, state: UplinkState = LINK, graph: bytes | None = None):
        self.counts = Counts()
        self.kept: list[Question] = []
        self.state, self.ahead = state, 0
        codec = open_codec(write_codec(folder / "codec", graph))
        id = codec.description.id
        rows = usable_rows(table(folder / "table.json", id, EDGE, WEBP, CODE, WIDE), codec)
        settings = OffloadSettings(folder / "codec", folder / "table.json", max_latency=2.0)
        self.controller = Controller(
            rows, settings, 1_000.0, lambda: self.state, lambda: self.ahead
        )
        encoder = Encoder(folder / "codec", codec, 20.0, self.counts)
        self.has_room = True
        self.offloading = Offloading(encoder, self.controller, self._keep, self.counts)

    def _keep(self, question: Question) -> bool:
        self.kept.append(question)
        return self.has_room

    def ask(self, row: Row) -> Question:
        event = event_of("e", IMAGE, FOUND, None, CAMERA, 1.0, degraded="x")
        self.offloading.take(Frame(event, "north", IMAGE, FOUND, SEEN.pixels, row))
        deadline = time.monotonic() + 30
        while not self.kept and time.monotonic() < deadline:
            time.sleep(0.01)
        (question,) = self.kept
        return question


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**more: Any) -> Rig:
        made.append(Rig(tmp_path, **more))
        made[-1].offloading.start()
        return made[-1]

    yield make
    for one in made:
        one.offloading.stop()


def test_the_row_is_the_most_accurate_that_the_link_carries_behind_what_waits(
    rig: Callable[..., Rig],
) -> None:
    made = rig()
    choose = made.offloading.choose
    # 900 bytes of alert and 600 of code in 2 s at 1,000 bytes/s.
    assert choose(CAMERA, SEEN.pixels) == WIDE
    made.ahead = 600
    assert choose(CAMERA, SEEN.pixels) == CODE
    made.ahead = 0
    assert choose(Size(224, 112), SEEN.pixels) == WEBP  # no encoder for that shape
    assert made.counts.of("offloads_changed", reason="no encoder for this size") == 1
    made.ahead = 5_000
    assert choose(CAMERA, SEEN.pixels) == EDGE
    made.ahead = 0
    made.state = replace(LINK, connected=False, problem="away")
    made.controller.look()
    assert made.controller.bandwidth == 0
    assert choose(CAMERA, SEEN.pixels) == EDGE


def test_over_a_metered_way_nothing_is_promised_that_will_not_go(rig: Callable[..., Rig]) -> None:
    made = rig(state=replace(LINK, metered=True))
    made.controller.look()
    assert made.controller.bandwidth == 0
    assert made.offloading.choose(CAMERA, SEEN.pixels) == EDGE


def test_a_question_that_the_spool_has_no_room_for_does_not_count_as_kept(
    rig: Callable[..., Rig],
) -> None:
    made = rig()
    made.has_room = False
    made.ask(WEBP)
    made.offloading.stop()
    assert made.counts.of("questions_kept", kind="question") == 0


def test_no_table_lets_an_encoder_hang_for_hours() -> None:
    assert patience([CODE, EDGE]) == 5
    assert patience([replace(CODE, edge_s=3.0, encode_s=1.0), EDGE]) == 16
    assert patience([replace(CODE, edge_s=3600.0), EDGE]) == 60


def test_a_code_has_the_rows_channels_and_the_prompt_of_the_frame(rig: Callable[..., Rig]) -> None:
    question = rig().ask(CODE)
    assert (question.kind, question.revision, question.id) == ("code", 0, "e")
    assert unpack(question.content).channels == 2
    assert question.prompt == task_prompt(SEEN, FOUND)


def test_a_picture_goes_where_the_row_says_so_or_the_encoder_fails(rig: Callable[..., Rig]) -> None:
    made = rig(graph=b"no graph")
    question = made.ask(WIDE)
    assert question.kind == "question"
    picture = cv2.imdecode(np.frombuffer(question.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (56, 56, 3)
    assert question.content[:4] == b"RIFF"
    assert made.counts.of("offloads_changed", reason="no code") == 1
    assert made.counts.of("questions_kept", kind="question") == 1


def test_frames_that_the_encoder_has_no_time_for_are_told_by_the_gate_alone(
    tmp_path: Path,
) -> None:
    made = Rig(tmp_path)  # never started
    event = event_of("e", IMAGE, FOUND, None, CAMERA, 1.0, degraded="x")
    for _ in range(9):
        made.offloading.take(Frame(event, "north", IMAGE, FOUND, SEEN.pixels, CODE))
    assert made.counts.of("questions_dropped", reason="the encoder is full") == 1
    assert made.offloading.choose(CAMERA, SEEN.pixels) is None
    assert not made.offloading.idle
    made.offloading.stop()
    assert made.counts.of("questions_dropped", reason="stopping") == 8


def test_a_table_of_another_codec_or_of_more_channels_is_refused(tmp_path: Path) -> None:
    codec = open_codec(write_codec(tmp_path / "codec"))
    with pytest.raises(ConfigError, match="is of codec 0000000000000000, the node has"):
        usable_rows(table(tmp_path / "t.json", "0" * 16, EDGE, WEBP, CODE), codec)
    more = replace(CODE, channels=9)
    with pytest.raises(ConfigError, match="row code has 9 channels, the codec 2, 8"):
        usable_rows(table(tmp_path / "u.json", codec.description.id, EDGE, WEBP, more), codec)


class Made:
    """In the place of an encoder and a controller, each doing as a test wants."""

    sizes = frozenset({SEEN})

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.content: bytes | Exception = b""
        self.picture, self.row = WEBP, CODE
        self.starts = self.stops = self.looks = 0
        self.no_start = False

    def start(self) -> None:
        self.starts += 1
        if self.no_start:
            raise ModelError("no graph")

    def stop(self) -> None:
        self.stops += 1

    def unit(self, jpeg: bytes) -> bytes:
        self.asked.append(jpeg)
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def look(self) -> None:
        self.looks += 1

    def choose(self, with_codes: bool) -> Row:
        self.asked.append(with_codes)
        return self.row

    def choose_picture(self) -> Row:
        return self.picture


class Small:
    """An offloading over made-up parts, that is not started."""

    def __init__(self, keep: Callable[[Question], bool] | None = None):
        self.made, self.counts = Made(), Counts()
        self.kept: list[Question] = []
        kept = keep or (lambda question: self.kept.append(question) or True)
        parts: Any = (self.made, self.made)
        self.offloading = Offloading(*parts, kept, self.counts)

    def counted(self) -> dict[str, int]:
        return {
            " ".join([name, *(value for _, value in labels)]): n
            for (name, labels), n in self.counts.snapshot().items()
        }


def frame(row: Row, image: Any = IMAGE) -> Frame:
    event = event_of("e", IMAGE, FOUND, None, CAMERA, 1.0, degraded="x", revision=4)
    return Frame(event, "north", image, FOUND, SEEN.pixels, row)


def code_of(channels: int) -> bytes:
    bits = np.arange(channels * 16).reshape(channels, 16) % 3 == 0
    return pack(CodeUnit("0" * 16, (4, 4), False, bits))


def test_a_code_is_of_the_frame_as_the_model_sees_it_with_its_boxes_and_cut_to_its_row() -> None:
    small = Small()
    small.made.content = code_of(8)
    small.offloading._send(frame(CODE))
    (question,) = small.kept
    event = frame(CODE).event
    about = ("e", "north", 4, event.priority, 1.0)
    prompt = task_prompt(SEEN, FOUND)
    assert question == Question(*about, "code", prompt, truncated(code_of(8), 2))
    (jpeg,) = small.made.asked
    assert jpeg == encode_seen(boxed_at(IMAGE, SEEN, FOUND))
    assert small.counted() == {"questions_kept code": 1}


@pytest.mark.parametrize(
    ("row", "begins", "flag", "quality"),
    [
        (WEBP, b"RIFF", cv2.IMWRITE_WEBP_QUALITY, 5),
        (Row("jpeg", "jpeg", 1, 0.5, quality=70), b"\xff\xd8", cv2.IMWRITE_JPEG_QUALITY, 70),
    ],
)
def test_a_picture_is_encoded_as_its_row_says(
    row: Row, begins: bytes, flag: int, quality: int
) -> None:
    small = Small()
    small.offloading._send(frame(row))
    (question,) = small.kept
    seen = boxed_at(IMAGE, SEEN, FOUND)
    suffix = ".webp" if row.kind == "webp" else ".jpg"
    assert question.content == bytes(cv2.imencode(suffix, seen, [flag, quality])[1])
    assert question.content.startswith(begins)
    assert (question.kind, question.prompt) == ("question", task_prompt(SEEN, FOUND))
    assert small.counted() == {"questions_kept question": 1}


@pytest.mark.parametrize("error", [ModelError("it hangs"), OffloadError("no unit")])
def test_where_no_code_is_made_the_best_picture_takes_its_place(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    small = Small()
    small.made.content = error
    small.offloading._send(frame(CODE))
    assert [question.kind for question in small.kept] == ["question"]
    assert small.kept[0].content.startswith(b"RIFF")
    assert caplog.messages == [f"event e: a picture in a code's place: {error}"]
    assert small.counted() == {"offloads_changed no code": 1, "questions_kept question": 1}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SpoolError("the disk fails"), "cannot be made"),
        (ValueError("a bad number"), "cannot be made"),
        (KeyError("a defect"), "defect"),
    ],
)
def test_a_question_that_is_not_made_or_kept_is_counted_and_the_next_one_goes(
    caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    def fail(question: Question) -> bool:
        raise error

    small = Small(fail)
    small.offloading._send(frame(WEBP))
    assert small.counted() == {f"questions_dropped {reason}": 1}
    why = f"event e: nothing follows its alert: {error}"
    assert caplog.messages == ["a question could not be made" if reason == "defect" else why]


@pytest.mark.parametrize(("most", "fits"), [(0, True), (-1, False)])
def test_a_prompt_that_no_receiver_takes_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, most: int, fits: bool
) -> None:
    monkeypatch.setattr(module, "MAX_PROMPT", len(task_prompt(SEEN, FOUND)) + most)
    small = Small()
    small.offloading._send(frame(WEBP))
    assert len(small.kept) == fits


def test_what_no_encoder_of_pictures_takes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.cv2, "imencode", lambda *_: (False, None))
    words = r"^a picture of \(56, 56, 3\) cannot be encoded as webp$"
    with pytest.raises(ValueError, match=words):
        module.small(np.zeros((56, 56, 3), np.uint8), WEBP)


def test_a_row_is_chosen_with_codes_where_an_encoder_has_the_size_and_counted() -> None:
    small = Small()
    assert small.offloading.choose(CAMERA, SEEN.pixels) == CODE
    assert small.offloading.choose(Size(224, 112), SEEN.pixels) == CODE
    assert small.made.asked == [True, False]
    expected = {"offloads code": 2, "offloads_changed no encoder for this size": 1}
    assert small.counted() == expected
    small.offloading._stopped = True
    assert small.offloading.choose(CAMERA, SEEN.pixels) is None
    assert small.counted() == expected | {"offloads full": 1}


def test_so_many_frames_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    assert small.offloading.idle
    for n in range(8):
        assert small.offloading.choose(CAMERA, SEEN.pixels) is not None, n
        small.offloading.take(frame(CODE))
    assert small.offloading.choose(CAMERA, SEEN.pixels) is None
    small.offloading.take(frame(CODE))
    assert not small.offloading.idle
    small.offloading.stop()
    counted = small.counted()
    assert counted["offloads full"] == 1
    assert counted["questions_dropped the encoder is full"] == 1
    assert counted["questions_dropped stopping"] == 8
    assert small.made.stops == 1


def test_the_thread_starts_the_encoder_looks_at_the_link_and_makes_what_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    small = Small()
    small.made.no_start = True  # it is tried again with each picture
    small.made.content = code_of(8)
    assert (small.offloading._thread.name, small.offloading._thread.daemon) == ("offload", True)
    small.offloading.start()
    until(lambda: small.made.looks >= 3)
    small.offloading.take(frame(CODE))
    small.offloading.take(frame(WEBP))
    until(lambda: len(small.kept) == 2)
    until(lambda: small.offloading.idle)
    small.offloading.stop()
    assert (small.made.starts, small.made.stops) == (1, 1)
    assert caplog.messages == ["no graph"]
    assert not small.offloading._thread.is_alive()
    looks = small.made.looks
    time.sleep(0.1)
    assert small.made.looks == looks


def test_the_link_is_looked_at_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    now, waits = [100.0], []

    def get(timeout: float) -> None:
        waits.append(timeout)
        now[0] += timeout
        if len(waits) == 3:
            small.offloading._stopped = True
        raise queue.Empty

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(small.offloading._frames, "get", get)
    small.offloading._run()
    assert waits == [1.0, 1.0, 1.0]
    assert small.made.looks == 3
