"""The source of the detections that guide the MLLM in the boxed images of tuning.

gate         the gate, as in the field. It was trained on the training frames, so it makes
             fewer errors there than on the test frames.
labels       the labels, each with confidence 1, like a perfect gate (ablation).
out-of-fold  for a training frame the gate that was not trained on it (`train.gate --fold`),
             for other frames the gate. So the MLLM is tuned with errors like those in the field.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from dat_runtime import fields, gate, manifest
from dat_runtime.draw import Image
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import read_json, write_json
from dat_runtime.truth import HELD_OUT, SPLITS, Frame, read_split
from dat_runtime.types import SEVERITIES, Detection

ORIGINS = ("gate", "labels", "out-of-fold")
_LEFT_OUT = {"image_ids": fields.list_of(fields.NAME)}
FOUND_IOU = 0.5
"""The least overlap at which a detection finds an accident, as in Recall@0.5."""

Guide = Callable[[Frame, Image], Sequence[Detection]]
"""The detections D⁺ (Eq. 2) for a frame, with boxes in pixels of the image; any thread may ask."""


@dataclass(frozen=True)
class Gates:
    """The gate folders of a run: the whole gate, and those that left a fold out."""

    origin: str
    whole: Path | None = None
    folds: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if (self.whole is None) != (self.origin == "labels"):
            complaint = "takes no --gate" if self.whole else "needs --gate"
            raise ConfigError(f"--detections {self.origin} {complaint}")
        if bool(self.folds) != (self.origin == "out-of-fold"):
            complaint = "takes no --fold-gate" if self.folds else "needs --fold-gate for every fold"
            raise ConfigError(f"--detections {self.origin} {complaint}")

    @property
    def inputs(self) -> dict[str, Path]:
        """The gate folders by the names that the manifest gives them."""
        inputs = {}
        if self.whole is not None:
            inputs["gate"] = self.whole
        for number, fold in enumerate(self.folds, start=1):
            inputs[f"fold-gate {number}"] = fold
        return inputs

    @property
    def classes(self) -> list[str]:
        """The class names in the prompt: the severities, or "accident"."""
        if self.whole is None:
            return list(SEVERITIES)
        return GateSettings.read(self.whole / GATE_FILE).names

    def guides(self, data: Path) -> dict[str, Guide]:
        """The guide of each split.

        Raises:
            ConfigError: the gates of the folds do not belong together, see `held_out`.
        """
        if self.whole is None:
            return dict.fromkeys(SPLITS, from_labels)
        whole = from_gate(self.whole)
        train = out_of_fold(data, self.whole, self.folds) if self.folds else whole
        return {"train": train, "val": whole, "test": whole}


def from_labels(frame: Frame, image: Image) -> Sequence[Detection]:
    """The frame's accidents, as a gate without error would detect them."""
    return [Detection(accident.box, accident.severity, 1.0) for accident in frame.accidents]


def from_gate(folder: Path) -> Guide:
    """The detections of the gate in `folder` that its own settings keep."""
    idle: SimpleQueue[YoloDetector] = SimpleQueue()
    idle.put(YoloDetector.load(folder))

    def detections(frame: Frame, image: Image) -> Sequence[Detection]:
        # A detector of its own for each thread: OpenVINO's answers one caller at a time.
        try:
            detector = idle.get_nowait()
        except Empty:
            detector = YoloDetector.load(folder)
        try:
            return gate.kept(detector.detect(image), detector.settings.keep)
        finally:
            idle.put(detector)

    return detections


def out_of_fold(data: Path, whole: Path, folds: Sequence[Path]) -> Guide:
    """For each training frame, the detections of the gate that was trained without it."""
    fold_of = held_out(data, whole, folds)
    guides = [from_gate(folder) for folder in folds]
    return lambda frame, image: guides[fold_of[frame.image_id]](frame, image)


def held_out(data: Path, whole: Path, folds: Sequence[Path]) -> dict[str, int]:
    """Training frame -> position in `folds` of the gate that left it out.

    Raises:
        ConfigError: a gate was trained from other data or for other classes, or left nothing out,
            or the whole gate did; a frame was left out by no gate, or by two.
    """
    _demand_same_training(data, whole, folds)
    if (whole / HELD_OUT).exists():
        raise ConfigError(
            f"--gate {whole} left a fold out: expected the gate trained on all frames"
        )
    fold_of: dict[str, int] = {}
    for number, folder in enumerate(folds):
        for image_id in _left_out(folder):
            if image_id in fold_of:
                raise ConfigError(
                    f"{folder} and {folds[fold_of[image_id]]} both left {image_id!r} out: "
                    "expected one gate for each fold of the same count"
                )
            fold_of[image_id] = number
    frames = {frame.image_id for frame in read_split(data, "train")}
    missing = frames - fold_of.keys()
    if missing:
        raise ConfigError(
            f"no gate left out {len(missing)} of {len(frames)} training frames, such as "
            f"{min(missing)!r}: train.gate --fold makes a gate for each fold; name each of them "
            "by --fold-gate"
        )
    return fold_of


def _demand_same_training(data: Path, whole: Path, folds: Sequence[Path]) -> None:
    """Refuse gates of other data or classes: the MLLM would be tuned on two kinds of detections."""
    data_digest = manifest.digest(data)
    classes = GateSettings.read(whole / GATE_FILE).names
    for folder in (whole, *folds):
        if manifest.read(folder, "gate").inputs.get("data") != data_digest:
            raise ConfigError(f"{folder} was trained from other data than {data}: train it again")
        names = GateSettings.read(folder / GATE_FILE).names
        if names != classes:
            raise ConfigError(
                f"{folder} has the classes {names}, {whole} has {classes}: "
                "expected gates of the same classes"
            )


def _left_out(folder: Path) -> list[str]:
    path = folder / HELD_OUT
    if not path.exists():
        raise ConfigError(f"--fold-gate {folder} left no fold out: train.gate --fold 1/3")
    try:
        content = fields.checked(read_json(path), _LEFT_OUT, "", further_keys=True)
    except ValueError as error:
        raise DataError(str(error), path) from None
    image_ids: list[str] = content["image_ids"]
    return image_ids


@dataclass
class Tally:
    """How the detections of one part compare with its labels; counts of frames, then of boxes.

    An accident is missed if no detection overlaps it by `FOUND_IOU`. A detection is extra if it
    finds no accident. Severities are compared for found accidents only.
    """

    frames: int = 0
    frames_with_detection: int = 0
    frames_with_missed: int = 0
    frames_with_extra: int = 0
    accidents: int = 0
    missed: int = 0
    detections: int = 0
    extra: int = 0
    other_severity: int = 0

    def add(self, frame: Frame, detections: Sequence[Detection]) -> None:
        """Count one frame.

        The most confident detection chooses first, and each accident is found once, as in the
        matching of an average precision.
        """
        missed = list(frame.accidents)
        extra = 0
        for detection in sorted(detections, key=lambda d: -d.confidence):
            box = detection.box.to(frame.size)
            best = max(missed, key=lambda accident: accident.box.iou(box), default=None)
            if best is None or best.box.iou(box) < FOUND_IOU:
                extra += 1
                continue
            missed.remove(best)
            self.other_severity += detection.severity not in (None, best.severity)
        self.frames += 1
        self.frames_with_detection += bool(detections)
        self.frames_with_missed += bool(missed)
        self.frames_with_extra += bool(extra)
        self.accidents += len(frame.accidents)
        self.missed += len(missed)
        self.detections += len(detections)
        self.extra += extra

    def words(self) -> str:
        """The counts in one line."""
        return (
            f"{self.frames} frames, {self.frames_with_detection} with a detection, "
            f"{self.frames_with_missed} with an accident missed, {self.frames_with_extra} with a "
            f"box too many; {self.missed} of {self.accidents} accidents missed, {self.extra} of "
            f"{self.detections} boxes too many, {self.other_severity} of another severity"
        )


def write_tallies(origin: str, tallies: Mapping[str, Tally], folder: Path) -> None:
    """detections.json: how often the detections err in each part."""
    parts = {part: asdict(tally) for part, tally in tallies.items()}
    write_json(folder / "detections.json", {"from": origin, "iou": FOUND_IOU, "parts": parts})
