"""What a weak node sends for a frame beyond its alert: a code or a small picture, made beside it.

    row = offloading.choose()             # in the gate's thread, before the alert is made
    offloading.take(Frame(...))           # once the alert is in the spool

One thread makes one question after the other; the encoder's process does the work. What waits is
bounded: the alert says then that the gate alone answers.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2

from dat_runtime.draw import Image, boxed_at, encode_seen, model_frame, size_of
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.offloading.controller import Controller
from dat_runtime.edge.offloading.encoder import Encoder
from dat_runtime.edge.question import MAX_PROMPT, Question
from dat_runtime.edge.spool import SpoolError
from dat_runtime.errors import ModelError, OffloadError
from dat_runtime.event import Event
from dat_runtime.offload import truncated
from dat_runtime.offload_table import Row
from dat_runtime.prompt import task_prompt
from dat_runtime.types import Detection, Size

FINISHES = "the cloud finishes"
"""Degraded so: what it takes is on its way, and the answer is the next revision."""

FULL = "the encoder is full"
TOO_SLOW = "the link is too slow for more than the gate's answer"

MOST = 8
"""Frames that wait for the encoder: each holds a picture in memory."""

LOOK_SECONDS = 1.0
"""Between two samples of the link."""

log = logging.getLogger("dat_runtime.edge")


@dataclass(frozen=True)
class Frame:
    """A frame whose alert is kept, and how its answer is to be finished.

    Attributes:
        kept: D⁺ of the frame, as the prompt lists it.
        max_pixels: the pixel limit of the images that the MLLM is shown.
    """

    event: Event
    camera: str
    image: Image
    kept: tuple[Detection, ...]
    max_pixels: int
    row: Row


class Offloading:
    """Makes questions in a thread of its own.

    Args:
        encoder: used by that thread only.
        keep: puts a question into the spool and hands it to the uplink; False where there is no
            room for it, which is counted there.
    """

    def __init__(
        self,
        encoder: Encoder,
        controller: Controller,
        keep: Callable[[Question], bool],
        counts: Counts,
    ):
        self._encoder, self._controller = encoder, controller
        self._keep = keep
        self._counts = counts
        self._frames: queue.Queue[Frame | None] = queue.Queue(MOST)
        self._thread = threading.Thread(target=self._run, name="offload", daemon=True)
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether no frame waits for its question."""
        return not self._frames.unfinished_tasks

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End; what was not made by then is told by the gate alone."""
        self._stopped = True
        with contextlib.suppress(queue.Full):  # it looks at `_stopped` after each frame
            self._frames.put_nowait(None)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        self._encoder.stop()
        with contextlib.suppress(queue.Empty):
            while True:
                if self._frames.get_nowait() is not None:
                    self._counts.add("questions_dropped", reason="stopping")

    def choose(self, frame: Size, max_pixels: int) -> Row | None:
        """How a frame that is news now is to be answered; `None`: no more of them can be taken."""
        if self._stopped or self._frames.full():
            self._counts.add("offloads", kind="full")
            return None
        has_encoder = model_frame(frame, max_pixels) in self._encoder.sizes
        if not has_encoder:
            self._counts.add("offloads_changed", reason="no encoder for this size")
        row = self._controller.choose(with_codes=has_encoder)
        self._counts.add("offloads", kind=row.kind)
        return row

    def take(self, frame: Frame) -> None:
        """Make the question of a frame; never blocks."""
        try:
            self._frames.put_nowait(frame)
        except queue.Full:
            self._counts.add("questions_dropped", reason="the encoder is full")

    def _run(self) -> None:
        try:
            self._encoder.start()  # before the first frame needs it
        except ModelError as error:
            log.warning("%s", error)
        look_at = time.monotonic()
        while not self._stopped:
            if (now := time.monotonic()) >= look_at:
                look_at = now + LOOK_SECONDS
                self._controller.look()
            try:
                frame = self._frames.get(timeout=max(0.0, look_at - now))
            except queue.Empty:
                continue
            if frame is not None:
                self._send(frame)
            self._frames.task_done()

    def _send(self, frame: Frame) -> None:
        try:
            question = self._made(frame)
            if self._keep(question):
                self._counts.add("questions_kept", kind=question.kind)
        except (ModelError, ValueError, SpoolError) as error:
            log.warning("event %s: nothing follows its alert: %s", frame.event.id, error)
            self._counts.add("questions_dropped", reason="cannot be made")
        except Exception:  # a defect, and no reason to lose the next frame
            log.exception("a question could not be made")
            self._counts.add("questions_dropped", reason="defect")

    def _made(self, frame: Frame) -> Question:
        """The code of a frame; where there is none, the best picture of it.

        Raises:
            ValueError: it cannot be asked about.
        """
        size = model_frame(size_of(frame.image), frame.max_pixels)
        prompt = task_prompt(size, frame.kept)
        if len(prompt) > MAX_PROMPT:
            raise ValueError(f"a prompt of {len(prompt):,} characters, at most {MAX_PROMPT:,}")
        seen = boxed_at(frame.image, size, frame.kept)
        row = frame.row
        if row.kind == "code":
            assert row.channels is not None
            try:
                # As in training, the model sees what a JPEG of it decodes to.
                content = truncated(self._encoder.unit(encode_seen(seen)), row.channels)
                return Question.of(frame.event, frame.camera, "code", prompt, content)
            except (ModelError, OffloadError) as error:
                log.warning("event %s: a picture in a code's place: %s", frame.event.id, error)
                self._counts.add("offloads_changed", reason="no code")
                row = self._controller.choose_picture()
        return Question.of(frame.event, frame.camera, "question", prompt, small(seen, row))


def small(seen: Image, row: Row) -> bytes:
    """A picture as a row of the table has it.

    Raises:
        ValueError: it cannot be encoded.
    """
    webp = row.kind == "webp"
    flag = cv2.IMWRITE_WEBP_QUALITY if webp else cv2.IMWRITE_JPEG_QUALITY
    done, encoded = cv2.imencode(".webp" if webp else ".jpg", seen, [flag, row.quality or 1])
    if not done:
        raise ValueError(f"a picture of {seen.shape} cannot be encoded as {row.kind}")
    return bytes(encoded)
