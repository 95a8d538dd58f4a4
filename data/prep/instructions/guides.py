"""Whose detections guide the MLLM in the boxed images of tuning.

gate         the gate's, as in the field. It was trained on the training frames, so it errs there
             less than on the test frames.
labels       the labels, each with confidence 1: a perfect gate (ablation).
out-of-fold  for a training frame, of the gate that was not trained on it (`train.gate --fold`);
             for the others the gate's. The MLLM is then tuned on the mistakes that it will meet.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dat_runtime import gate, manifest
from dat_runtime.draw import Image
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.truth import Frame, read_split
from dat_runtime.types import SEVERITIES, Detection

ORIGINS = ("gate", "labels", "out-of-fold")
HELD_OUT = "held_out.json"
FOUND_IOU = 0.5
"""From this overlap on a detection finds an accident, as in Recall@0.5."""

Guide = Callable[[Frame, Image], Sequence[Detection]]
"""D⁺ of Eq. 2 for a frame, boxes in its own pixels."""


@dataclass(frozen=True)
class Gates:
    """The gate folders of a run: the whole gate, and those that left a fold out."""

    origin: str
    whole: Path | None = None
    folds: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if (self.whole is None) != (self.origin == "labels"):
            told = "takes no --gate" if self.whole else "needs --gate"
            raise ConfigError(f"--detections {self.origin} {told}")
        if bool(self.folds) != (self.origin == "out-of-fold"):
            told = "takes no --fold-gate" if self.folds else "needs --fold-gate for every fold"
            raise ConfigError(f"--detections {self.origin} {told}")

    @property
    def inputs(self) -> dict[str, Path]:
        """For the manifest."""
        folds = {f"fold-gate {number}": path for number, path in enumerate(self.folds, 1)}
        return {**({"gate": self.whole} if self.whole else {}), **folds}

    @property
    def classes(self) -> list[str]:
        """What the prompt tells of a detection: severities, or "accident"."""
        if self.whole is None:
            return list(SEVERITIES)
        return GateSettings.read(self.whole / GATE_FILE).names

    def guides(self, data: Path) -> dict[str, Guide]:
        """The guide of each split.

        Raises:
            ConfigError: the gates of the folds do not belong together, see `held_out`.
        """
        if self.whole is None:
            return dict.fromkeys(("train", "val", "test"), from_labels)
        whole = from_gate(self.whole)
        train = out_of_fold(data, self.whole, self.folds) if self.folds else whole
        return {"train": train, "val": whole, "test": whole}


def from_labels(frame: Frame, image: Image) -> Sequence[Detection]:
    return [Detection(a.box, a.severity, 1.0) for a in frame.accidents]


def from_gate(folder: Path) -> Guide:
    detector = YoloDetector.load(folder)
    keep = detector.settings.keep
    return lambda frame, image: gate.kept(detector.detect(image), keep)


def out_of_fold(data: Path, whole: Path, folds: Sequence[Path]) -> Guide:
    """Each training frame seen by the gate that left it out."""
    numbers = held_out(data, whole, folds)
    guides = [from_gate(folder) for folder in folds]
    return lambda frame, image: guides[numbers[frame.image_id]](frame, image)


def held_out(data: Path, whole: Path, folds: Sequence[Path]) -> dict[str, int]:
    """Training frame -> position in `folds` of the gate that left it out.

    Raises:
        ConfigError: a gate was trained from other data or for other classes, or left nothing out,
            or the whole gate did; a frame was left out by no gate, or by two.
    """
    digest, expected = manifest.digest(data), GateSettings.read(whole / GATE_FILE).names
    for folder in (whole, *folds):
        if manifest.read(folder, "gate").inputs.get("data") != digest:
            raise ConfigError(f"{folder} was trained from other data than {data}: train it again")
        if (names := GateSettings.read(folder / GATE_FILE).names) != expected:
            raise ConfigError(
                f"{folder} tells {names}, {whole} {expected}: expected gates of the same classes"
            )
    if (whole / HELD_OUT).exists():
        raise ConfigError(
            f"--gate {whole} left a fold out: expected the gate trained on all frames"
        )
    numbers: dict[str, int] = {}
    for number, folder in enumerate(folds):
        for name in _left_out(folder):
            if name in numbers:
                raise ConfigError(
                    f"{folder} and {folds[numbers[name]]} both left {name!r} out: "
                    "expected one gate for each fold of the same count"
                )
            numbers[name] = number
    frames = {frame.image_id for frame in read_split(data, "train")}
    if missing := frames - numbers.keys():
        raise ConfigError(
            f"{len(missing)} of {len(frames)} training frames were left out by no gate, such as "
            f"{min(missing)!r}: train.gate --fold makes one for each fold, and each is named by "
            "--fold-gate"
        )
    return numbers


def _left_out(folder: Path) -> list[str]:
    path = folder / HELD_OUT
    try:
        return [str(name) for name in json.loads(path.read_text("utf-8"))["image_ids"]]
    except FileNotFoundError:
        raise ConfigError(f"--fold-gate {folder} left no fold out: train.gate --fold 1/3") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"names no frames ({error!r:.60})", path) from None


@dataclass
class Tally:
    """How the detections of one part stand to its labels; counts of frames, then of boxes.

    An accident is missed that no detection overlaps by `FOUND_IOU`; a detection is extra that
    finds no accident. Severity is only compared where one is found.
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
        free = list(frame.accidents)
        extra = 0
        for detection in sorted(detections, key=lambda d: -d.confidence):
            box = detection.box.to(frame.size)
            best = max(free, key=lambda a: a.box.iou(box), default=None)
            if best is None or best.box.iou(box) < FOUND_IOU:
                extra += 1
                continue
            free.remove(best)
            self.other_severity += detection.severity not in (None, best.severity)
        self.frames += 1
        self.frames_with_detection += bool(detections)
        self.frames_with_missed += bool(free)
        self.frames_with_extra += bool(extra)
        self.accidents += len(frame.accidents)
        self.missed += len(free)
        self.detections += len(detections)
        self.extra += extra

    def words(self) -> str:
        return (
            f"{self.frames} frames, {self.frames_with_detection} with a detection, "
            f"{self.frames_with_missed} with an accident missed, {self.frames_with_extra} with a "
            f"box too many; {self.missed} of {self.accidents} accidents missed, {self.extra} of "
            f"{self.detections} boxes too many, {self.other_severity} of another severity"
        )


def write_tallies(origin: str, tallies: Mapping[str, Tally], folder: Path) -> None:
    """detections.json: per part how often the detections err."""
    content = {
        "from": origin,
        "iou": FOUND_IOU,
        "parts": {part: asdict(tally) for part, tally in tallies.items()},
    }
    (folder / "detections.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
