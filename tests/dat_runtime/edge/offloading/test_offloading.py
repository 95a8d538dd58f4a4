"""What follows an alert: the code or the picture that the table has for the link of the moment."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node_settings import OffloadSettings
from dat_runtime.edge.offloading.controller import Controller, usable_rows
from dat_runtime.edge.offloading.encoder import Encoder, patience
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.offloading.offloading import Frame, Offloading
from dat_runtime.edge.question import Question
from dat_runtime.edge.uplink.settings import UplinkState
from dat_runtime.errors import ConfigError
from dat_runtime.event import event_of
from dat_runtime.files import write_json
from dat_runtime.offload import unpack
from dat_runtime.offload_table import Row, Table
from dat_runtime.prompt import task_prompt
from dat_runtime.types import Box, Detection, Size
from tests.dat_runtime.edge.offloading.small_codec import write_codec

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
