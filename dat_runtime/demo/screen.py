"""The demo: gate, boxed image, MLLM, check, priority, event and plan of one frame, in words."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

from dat_runtime import gate
from dat_runtime.answer import in_frame
from dat_runtime.batch import read_batch
from dat_runtime.cascade import Band, Decision, Routing
from dat_runtime.demo.recording import FRAME, WAITING, Recording, read_recording
from dat_runtime.draw import Image, size_of
from dat_runtime.edge.assess import Assessor, EndpointAssessor, RecordedAssessor
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.source import header_size, read_frame
from dat_runtime.endpoint import AssessmentError
from dat_runtime.errors import ConfigError, printable
from dat_runtime.event import Event, Question, event_of, question
from dat_runtime.family import QWEN2_5_VL, Family
from dat_runtime.files import write_atomically
from dat_runtime.priority import BETA
from dat_runtime.schedule import VISUAL_DEADLINE, PendingEvent, plan
from dat_runtime.types import Detection, Size

WIDTH = 90
"""Columns of the screen; every line keeps within it."""

INTERVAL = 1.0
EVENT_ID = "this-frame"

_MARGIN = 18
"""Columns of a step's name; its words begin after it."""

_COLUMN = 44
"""Columns of one plan; two lie side by side, with a margin of two."""

_KINDS = {"json": "JSON", "roi": "ROI", "box": "boxed image"}
_UNITS = {"alert": ("json",), "visual": ("roi", "box")}


@dataclass(frozen=True)
class Choices:
    """What the demo runs on; see `dat-runtime demo --help`."""

    bundle: Path | None = None
    frame: Path | None = None
    answer: Path | None = None
    endpoint: str | None = None
    model: str | None = None
    api_key: str | None = None
    bandwidths: tuple[float, ...] = (200e3, 20e3)
    out: Path | None = None


@dataclass(frozen=True)
class Gate:
    """What the gate detected in the frame, and how the frame is routed.

    Attributes:
        max_pixels: the limit at which the MLLM sees the frame.
        family: of the MLLM.
        not_fit: why the gate's bundle is not fit for use; `None`: it does not say so.
    """

    name: str
    detections: tuple[Detection, ...]
    routing: Routing
    max_pixels: int
    family: Family = QWEN2_5_VL
    not_fit: str | None = None

    @property
    def kept(self) -> tuple[Detection, ...]:
        return gate.kept(self.detections, self.routing.keep)

    @property
    def decision(self) -> Decision:
        return self.routing.decide(gate.trigger_score(self.detections))


def show(choices: Choices) -> Iterator[str]:
    """The lines of the demo, each at most `WIDTH` columns, as the work goes on.

    Raises:
        ConfigError: the endpoint's address or the bandwidth is not valid; `out` cannot be written.
        DatError: a file cannot be used; nothing is saved then.
    """
    image = read_frame(choices.frame or FRAME)
    recording = None if choices.frame else read_recording()
    look = _gate(image, choices, recording)
    yield "DAT: from one camera frame to what the uplink carries"
    yield from _said("frame", _frame_words(image, choices, recording))
    if look.not_fit is not None:
        yield from _said("bundle", f"NOT FIT FOR USE: {look.not_fit}")
    yield from _said("1 gate      Eq.1", _gate_words(look))
    if look.decision == "drop":
        return
    if look.decision == "ask":
        asked = question(image, look.kept, look.max_pixels, look.family)
        yield from _said("2 boxed     Eq.2", _question_words(asked, look))
        event, words = _ask(image, look, asked, choices, recording)
        yield from _said("3 MLLM      Eq.3", words)
    else:
        event = event_of(EVENT_ID, image, look.kept, None, size_of(image))
    yield from _said("4 check     Eq.4", _check_words(event))
    yield from _said("5 priority  Eq.7", _priority_words(event))
    yield from _said("6 event", _event_words(event))

    waiting = [event.pending(), *read_batch(WAITING)]
    yield from _said("7 plan      Eq.12", _plan_words(waiting))
    yield from _plans(waiting, choices.bandwidths)
    if choices.out:
        saved = _save(choices.out, event)
        yield f"saved in {choices.out}: {', '.join(saved)}"


def _said(step: str, words: str) -> Iterator[str]:
    """The lines of a step: its name beside the first one only."""
    name = step
    # Answers, problems and file names are in the words, and they come from elsewhere.
    for line in textwrap.wrap(printable(words), WIDTH - _MARGIN, break_on_hyphens=False):
        yield f"{name:<{_MARGIN}}{line}"
        name = ""


def _frame_words(image: Image, choices: Choices, recording: Recording | None) -> str:
    size = size_of(image)
    name = choices.frame.name if choices.frame else "a rendered scene from the package"
    words = f"{size.width} x {size.height}, {name}"
    recorded = [] if choices.bundle else ["detections"]
    if recording and not choices.answer and not choices.endpoint:
        recorded.append("answer")
    if not recorded or recording is None:
        return words
    return f"{words}; recorded: {' and '.join(recorded)}, from {recording.by}"


def _gate(image: Image, choices: Choices, recording: Recording | None) -> Gate:
    if choices.bundle:
        bundle = open_bundle(choices.bundle)
        detections = bundle.detector.detect(image)
        settings = bundle.detector.settings
        shown = bundle.max_pixels, bundle.family, bundle.not_fit
        return Gate(settings.model, detections, settings.routing, *shown)
    if recording is None:
        raise ConfigError("a frame of your own needs a bundle, whose gate looks at it")
    keep = recording.threshold
    routing = Routing(keep, Band(keep, None))
    return Gate("recorded", recording.detections, routing, recording.max_pixels)


def _gate_words(look: Gate) -> str:
    score = gate.trigger_score(look.detections)
    band, value = look.routing.band, f"highest {score:.2f}"
    if look.routing.calibration is not None:
        value += f", as a probability {look.routing.probability(score):.2f}"
    if look.decision == "drop":
        return (
            f"({look.name}) {value} < {band.low:.3g}: the frame is dropped here; the MLLM and the "
            "uplink never hear of it"
        )
    boxes = ", ".join(f"{d.label} {d.confidence:.2f}" for d in look.kept) or "no box"
    if look.decision == "report":
        return (
            f"({look.name}) {boxes}; {value} >= {band.high:.3g}: sure enough, the gate answers "
            "itself and the MLLM is not asked"
        )
    return f"({look.name}) {boxes}; {value} >= {band.low:.3g}: the frame goes on"


def _question_words(asked: Question, look: Gate) -> str:
    size = header_size(asked.png)
    return (
        f"{len(look.kept)} boxes drawn on the frame at {size.width} x {size.height}, "
        f"{_kb(len(asked.png))} PNG for the MLLM; the prompt lists them too"
    )


def _ask(
    image: Image, look: Gate, asked: Question, choices: Choices, recording: Recording | None
) -> tuple[Event, str]:
    """The event, and what the MLLM answered, or why it gave no answer."""
    assessor = _assessor(choices, recording, asked.frame)
    answer, words = None, "none given (--endpoint or --answer)"
    if assessor is not None:
        try:
            answer = assessor.assess(asked.png, asked.system, asked.prompt)
            words = textwrap.shorten(answer, 4 * (WIDTH - _MARGIN), placeholder=" ...")
        except AssessmentError as error:
            words = f"no answer: {error}"
    return event_of(EVENT_ID, image, look.kept, answer, asked.frame), words


def _assessor(choices: Choices, recording: Recording | None, frame: Size) -> Assessor | None:
    if choices.answer:
        return RecordedAssessor.from_file(choices.answer)
    if choices.endpoint and choices.model:
        try:
            return EndpointAssessor(choices.endpoint, choices.model, api_key=choices.api_key)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if recording is None:
        return None
    return RecordedAssessor(in_frame(recording.answer, recording.frame, frame))


def _check_words(event: Event) -> str:
    if event.check is None:
        return "nothing to check: the event is made from the gate's detections"
    if event.source == "mllm":
        return "JSON, fits the schema, no contradiction, every number in bounds"
    if event.alert.conflict:
        return "compliant, but it says less than a sure gate saw: the gate's assessment stands"
    problems = "; ".join(event.check.problems)
    words = f"refused, the event is made from the gate's detections instead: {problems}"
    return _cut(words, 300)


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 3]}..."


def _priority_words(event: Event) -> str:
    answer = event.assessment
    return (
        f"S = {BETA} * level {answer.level} + {1 - BETA} * score {answer.score:g} "
        f"= {event.priority:.3f}   ({answer.severity})"
    )


def _event_words(event: Event) -> str:
    units = [f"JSON {_kb(len(event.json))}"]
    if event.roi is not None:
        units.append(f"ROI {_kb(len(event.roi))}")
    units.append(f"boxed image {_kb(len(event.boxed))}")
    return "up to three units for the uplink: " + ", ".join(units)


def _plan_words(waiting: Sequence[PendingEvent]) -> str:
    others = ", ".join(f"{event.id} {event.priority:.2f}" for event in waiting[1:])
    return (
        f"Algorithm 1, {INTERVAL:g} s ahead, with three waiting events (S of {others}): alerts by "
        f"S per byte, then each one's smaller visual, if done within {VISUAL_DEADLINE:g} s"
    )


def _plans(waiting: Sequence[PendingEvent], bandwidths: Sequence[float]) -> Iterator[str]:
    """One column per bandwidth, side by side."""
    columns = [_plan_column(waiting, bandwidth) for bandwidth in bandwidths]
    for row in zip_longest(*columns, fillvalue=""):
        yield "  " + "".join(f"{cell:<{_COLUMN}}" for cell in row).rstrip()


def _plan_column(waiting: Sequence[PendingEvent], bandwidth: float) -> list[str]:
    try:
        planned = plan(waiting, bandwidth, INTERVAL, VISUAL_DEADLINE)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    lines = [f"at {bandwidth / 1000:g} kB/s"]
    for t in planned:
        lines.append(f"{t.done_at:6.3f} s  {t.event_id:<11} {_KINDS[t.kind]:<11} {_kb(t.size):>8}")
    for name, kinds in _UNITS.items():
        sent = {t.event_id for t in planned if t.kind in kinds}
        held = [event.id for event in waiting if event.id not in sent]
        if held:
            words = f"not yet: {name} of {', '.join(held)}"
            lines.append(_cut(words, _COLUMN - 2))
    return lines


def _save(out: Path, event: Event) -> list[str]:
    """Write the event's units into a folder; the names of the files."""
    waiting = json.dumps(asdict(event.pending())).encode()
    contents = {
        "boxed.jpg": event.boxed,
        "alert.json": event.json + b"\n",
        "event.json": waiting + b"\n",
    }
    if event.roi is not None:
        contents["roi.jpg"] = event.roi
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from None
    return list(contents)


def _kb(size: int) -> str:
    return f"{size / 1000:.1f} kB"
