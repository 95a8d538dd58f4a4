"""The node: from camera to an event that is durable and on its way (`dat-runtime edge run`).

    cameras -> gate -> incidents -> the MLLM, or the gate alone -> event -> spool -> uplink

One thread runs the gate and waits for nothing else. Questions, pictures and commits are the work of
other threads, so that a hanging MLLM or a slow disk costs no frame.
"""

import contextlib
import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from dat_runtime import gate
from dat_runtime.alert import Origin
from dat_runtime.cascade import Decision, LoadController, Routing
from dat_runtime.draw import is_too_long, size_of
from dat_runtime.edge.asking import Asking, Outcome
from dat_runtime.edge.assess import Assessor
from dat_runtime.edge.cameras.settings import CameraFrame
from dat_runtime.edge.cameras.watch import Cameras
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.detector import Detector
from dat_runtime.edge.incidents import Incidents
from dat_runtime.edge.offloading.offloading import FINISHES, FULL, TOO_SLOW, Frame, Offloading
from dat_runtime.edge.revisions import Revisions
from dat_runtime.edge.spool import Spool, SpoolError
from dat_runtime.edge.updates.probation import Tally, is_compliant
from dat_runtime.edge.uplink.uplink import Uplink
from dat_runtime.errors import ModelError
from dat_runtime.event import Event, event_of, question
from dat_runtime.family import QWEN2_5_VL, Family
from dat_runtime.offload_table import Row
from dat_runtime.types import Detection

BUILDERS = 2
"""Threads that draw, encode and commit events. OpenCV and SQLite work outside Python's lock."""

MOST_IN_HAND = 32
"""Frames that wait for an answer, or to become events: each holds a picture in memory."""

QUIET = 10.0
"""Seconds without a look of the gate after which the node is not healthy."""

BLIND = 20
"""Frames in a row on which the detector fails, after which the node is not healthy."""

SIDE_RATIO = "side ratio"
"""Degraded so: the MLLM sees no picture that is so much longer than wide (`draw.model_frame`)."""

END_SECONDS = 4.5
"""From the request to end until all is committed and closed."""

LAST_SECONDS = 10.0
"""After the end of all files and folders: what is not sent by then waits for the next start."""

NO_MLLM = "no MLLM is configured"

log = logging.getLogger("dat_runtime.edge")


@dataclass(frozen=True)
class Gate:
    """The detector of a bundle with what goes with it.

    Attributes:
        versions: of the bundle and its parts, as alerts state them.
        max_pixels: the pixel limit of the images that the MLLM is shown.
        family: of the MLLM.
        tally: measures this version at work.
    """

    detector: Detector
    routing: Routing
    versions: dict[str, str | int | None]
    max_pixels: int
    family: Family = QWEN2_5_VL
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class _Work:
    """A frame that is news, on its way to an event.

    Attributes:
        gate: that looked at it; its versions are stated.
        kept: D⁺ of the frame: what the MLLM is shown, as in its training.
        found: those of the incident: what the event is about.
        row: how its answer is finished elsewhere, where it is.
    """

    id: str
    gate: Gate
    frame: CameraFrame
    kept: tuple[Detection, ...]
    found: tuple[Detection, ...]
    row: Row | None = None


class Node:
    """Runs until it is stopped, or every camera has ended.

    Args:
        asking: bounded questions to the MLLM; `None`: the gate answers alone.
        offloading: in its place where the node is too weak for an MLLM beside it: the receiver
            finishes.
    """

    def __init__(
        self,
        name: str,
        gate: Gate,
        cameras: Cameras,
        asking: Asking | None,
        spool: Spool,
        uplink: Uplink,
        counts: Counts,
        offloading: Offloading | None = None,
    ):
        self._name = name
        self._cameras = cameras
        self._asking = asking
        self._offloading = offloading
        self._spool = spool
        self._uplink = uplink
        self._counts = counts
        self._use(gate)
        self._coming: queue.SimpleQueue[tuple[Gate, Assessor | None, threading.Event]]
        self._coming = queue.SimpleQueue()
        self._incidents = Incidents()
        self._revisions = Revisions()
        self._builders = ThreadPoolExecutor(BUILDERS, "event")
        self._in_hand = threading.Semaphore(MOST_IN_HAND)
        self._stopping = threading.Event()
        self._looked_at = time.monotonic()

    def run(self) -> None:
        """Until `stop` is called or all cameras have ended; then everything is in the spool."""
        try:
            self._uplink.start()
            if self._offloading is not None:
                self._offloading.start()
            self._cameras.start()
            while not self._stopping.is_set():
                self._take_what_came()
                frame = self._cameras.next(timeout=0.5)
                self._looked_at = time.monotonic()
                if frame is not None:
                    self._look(frame)
                elif self._cameras.finished:
                    self._finish()
                    break
        finally:
            self._end()

    def stop(self) -> None:
        """Ask `run` to end; safe in a signal handler."""
        self._stopping.set()

    def take(self, gate: Gate, assessor: Assessor | None) -> threading.Event:
        """Work with another gate and ask another MLLM, both from the same frame on.

        What is under way ends with the gate and the MLLM that it began with.

        Returns:
            Set once the next frame is looked at by the new gate; never after the node's end.
        """
        taken = threading.Event()
        self._coming.put((gate, assessor, taken))
        return taken

    def _take_what_came(self) -> None:
        """In the gate's thread, which is also the one that asks: no frame sees half of a change."""
        with contextlib.suppress(queue.Empty):
            while True:
                gate, assessor, taken = self._coming.get_nowait()
                self._use(gate)
                if self._asking is not None:
                    self._asking.take(assessor)
                taken.set()

    def _use(self, gate: Gate) -> None:
        routing = gate.routing
        self._gate = gate
        self._router = LoadController(routing) if routing.budget is not None else routing
        self._failures = 0  # of the detector, in a row

    @property
    def looks(self) -> bool:
        """Whether the gate's thread went round lately; a frame need not have come."""
        return time.monotonic() - self._looked_at <= QUIET

    def problems(self) -> list[str]:
        """Why the node is not healthy, in words; empty when it is."""
        found = []
        if not self.looks:
            found.append(f"the gate has not looked for more than {QUIET:g} s")
        if self._failures >= BLIND:
            found.append("the gate fails on every frame")
        if not self._spool.healthy:
            found.append(f"the spool cannot keep events: {self._spool.problem}")
        states = self._cameras.states()
        if not any(state in ("starting", "live", "ended") for state in states.values()):
            found.append("no camera gives frames")
        return found

    def _finish(self) -> None:
        """All cameras have ended: let what is in hand become events, and what waits be sent."""
        deadline = time.monotonic() + LAST_SECONDS
        for _ in range(MOST_IN_HAND):  # who has all places knows that nothing is in hand
            self._in_hand.acquire(timeout=max(0.0, deadline - time.monotonic()))
        while time.monotonic() < deadline and not self._stopping.is_set():
            state = self._uplink.state
            waiting = state.alerts_waiting + state.visuals_waiting + state.questions_waiting
            if not waiting and (self._offloading is None or self._offloading.idle):
                break
            self._stopping.wait(0.05)

    def _end(self) -> None:
        deadline = time.monotonic() + END_SECONDS
        self._cameras.stop()
        if self._asking is not None:
            self._asking.stop()  # what is still asked about is told by the gate
        self._builders.shutdown(wait=True)
        if self._offloading is not None:
            self._offloading.stop()
        # What it has not sent stays in the spool, so it gets what is left of the time.
        self._uplink.stop(timeout=min(2.0, max(0.2, deadline - time.monotonic())))
        self._spool.close()

    def _look(self, frame: CameraFrame) -> None:
        """Eq. 1-2 on one frame, and whether it is news."""
        began = time.monotonic()
        try:
            detections = self._gate.detector.detect(frame.image)
        except (ModelError, ValueError) as error:
            self._gate.tally.looked(time.monotonic() - began, failed=True)
            self._counts.add("frames_failed", camera=frame.camera)
            self._failures += 1
            if self._failures == BLIND:
                log.error("the gate fails on every frame: %s", error)
            return
        self._gate.tally.looked(time.monotonic() - began)
        self._failures = 0
        decision = self._router.decide(gate.trigger_score(detections))
        self._counts.add("frames", camera=frame.camera, decision=decision)
        kept = gate.kept(detections, self._gate.routing.keep) if decision != "drop" else ()
        # A band may ask about frames without a kept box: the best one says where they look.
        seen = kept or (detections[:1] if decision == "ask" else ())
        sighting = self._incidents.see(frame.camera, frame.taken, seen)
        if sighting is not None and sighting.is_news:
            found = gate.kept(sighting.detections, self._gate.routing.keep)
            self._tell(_Work(sighting.id, self._gate, frame, kept, found), decision)

    def _tell(self, work: _Work, decision: Decision) -> None:
        if not self._in_hand.acquire(blocking=False):
            # Memory is bounded: the gate waits, and frames that nobody looks at are replaced.
            self._counts.add("gate_waited")
            self._in_hand.acquire()
        asking = self._asking
        if decision == "report":
            self._build(work, None, release=True)
        elif asking is None and self._offloading is None:
            self._build(work, Outcome(None, size_of(work.frame.image), NO_MLLM), release=True)
        elif is_too_long(size_of(work.frame.image)):
            self._counts.add("questions_degraded", cause=SIDE_RATIO)
            self._build(work, Outcome(None, size_of(work.frame.image), SIDE_RATIO), release=True)
        elif asking is None:
            self._offload(work)
        else:
            self._ask(asking, work)

    def _offload(self, work: _Work) -> None:
        """Let the gate tell it, and the receiver finish, as far as the link allows."""
        assert self._offloading is not None
        size = size_of(work.frame.image)
        row = self._offloading.choose(size, work.gate.max_pixels)
        if row is None or row.kind == "edge":
            words = FULL if row is None else TOO_SLOW
            self._build(work, Outcome(None, size, words), release=True)
        else:
            finishes = Outcome(None, size, FINISHES)
            self._build(replace(work, row=row), finishes, release=True)

    def _ask(self, asking: Asking, work: _Work) -> None:
        began = time.monotonic()

        def done(outcome: Outcome) -> None:
            _measure(work.gate.tally, outcome, time.monotonic() - began)
            self._build(work, outcome, release=not outcome.late)

        looked = work.gate
        asking.ask(
            lambda: question(work.frame.image, work.kept, looked.max_pixels, looked.family), done
        )

    def _build(self, work: _Work, outcome: Outcome | None, release: bool) -> None:
        """Have an event made; the caller's thread has other things to do."""

        def build() -> None:
            try:
                self._make(work, outcome)
            except Exception:  # a defect: without this line the thread pool would keep it to itself
                self._counts.add("alerts_lost", reason="defect")
                log.exception("event %s could not be made", work.id)
            finally:
                if release:
                    self._in_hand.release()

        try:
            self._builders.submit(build)
        except RuntimeError:  # shut down: a late answer's event is told already
            self._counts.add("answers_dropped", reason="stopping")

    def _make(self, work: _Work, outcome: Outcome | None) -> None:
        """The event of a frame, into the spool and to the uplink."""
        if outcome is not None and outcome.answer is None and not work.found:
            # Neither said anything: the gate kept no box.
            self._counts.add("frames_unanswered", camera=work.frame.camera)
            self._incidents.answered(work.frame.camera, work.id, False)
            return
        is_late = outcome is not None and outcome.late
        finishes = work.row is not None
        revision = self._revisions.next(work.id, work.frame.taken, is_late, leaves_one=finishes)
        if revision is None:
            self._counts.add("answers_dropped" if is_late else "alerts_dropped", reason="overtaken")
            return
        event = self._event(work, outcome, revision)
        try:
            self._spool.put(event, work.frame.camera)
        except SpoolError as error:  # counted by the spool, with its reason
            log.error("event %s is lost: %s", work.id, error)
            self._incidents.answered(work.frame.camera, work.id, False)  # worth telling again
            return
        self._revisions.told(work.id, work.frame.taken, event.priority)
        self._uplink.offer(event, work.frame.camera)
        if self._offloading is not None and work.row is not None:
            frame, gate = work.frame, work.gate
            about = (event, frame.camera, frame.image, work.kept, gate.max_pixels, work.row)
            self._offloading.take(Frame(*about))
        severity, source = event.assessment.severity, event.source
        log.info("camera %s: %s, says the %s (%s)", work.frame.camera, severity, source, event.id)
        if event.alert.degraded not in (NO_MLLM, SIDE_RATIO):
            # What the MLLM could not say is worth another question when it is seen again.
            answered = event.alert.degraded in (None, FINISHES)
            self._incidents.answered(work.frame.camera, work.id, answered)
        self._counts.add("alerts", camera=work.frame.camera, source=event.source)
        if event.alert.degraded is not None:
            self._counts.add("alerts_degraded", camera=work.frame.camera)
        if event.alert.conflict:
            self._counts.add("alerts_in_conflict", camera=work.frame.camera)

    def _event(self, work: _Work, outcome: Outcome | None, revision: int) -> Event:
        frame = work.frame
        return event_of(
            work.id,
            frame.image,
            work.found,
            None if outcome is None else outcome.answer,
            size_of(frame.image) if outcome is None else outcome.frame,
            frame.captured_at,
            origin=Origin(self._name, frame.camera, work.gate.versions),
            degraded=None if outcome is None else outcome.degraded,
            revision=revision,
            least_priority=self._revisions.least_priority(work.id, frame.taken),
        )


def _measure(tally: Tally, outcome: Outcome, seconds: float) -> None:
    """What an outcome says of the version that was asked."""
    if not outcome.late and outcome.of_the_mllm:
        tally.asked()
    if outcome.answer is not None:
        tally.answered(seconds, is_compliant(outcome.answer, outcome.frame))
