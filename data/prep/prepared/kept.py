"""The frames that are kept for the set: one record each, from the source to the report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from dat_runtime.types import Accident, Size
from data.prep.importers.faults import LOSING, Fault
from data.prep.importers.source_frame import SourceFrame
from data.prep.importers.sources import Sources
from data.prep.pictures.prepare import Prepared

_MOST_REASONS = 5
"""Kinds of faults that a refusal names."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A usable frame of the source on its way into the set.

    Attributes:
        source: the frame as the source has it; its boxes are in `labels.UNIT`.
        picture: the result of preparing its picture.
        content: a digest that is equal for two frames exactly if they have the same pixels.
        position: its number among all frames of the source, which names its prepared picture until
            `writer.place_pictures` moves it.
        split: train, val or test; "" until `splitting.assign` decides it.
        group: the number of its group of frames that belong together; -1 until
            `splitting.leaks.with_groups` sets it.
        conflict: how its labels contradict those of another frame of the same picture, of
            `splitting.conflicts.KINDS`; "" where they do not.
    """

    source: SourceFrame
    picture: Prepared
    content: str
    position: int
    split: str = ""
    group: int = -1
    conflict: str = ""

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def accidents(self) -> tuple[Accident, ...]:
        """Boxes are in `labels.UNIT`, of the upright picture."""
        return self.source.accidents

    @property
    def negative(self) -> bool:
        """Whether it comes from the accident-free frames of the CCTV set."""
        return self.source.negative

    @property
    def stratum(self) -> str:
        """What splits are balanced over: the highest severity, `empty`, or `negative`."""
        return self.source.stratum

    @property
    def size(self) -> Size:
        """The size of the prepared picture, in pixels."""
        assert self.picture.size is not None  # a frame without a usable picture is not kept
        return self.picture.size

    @property
    def image(self) -> str:
        """The place of its picture in the set's folder."""
        return f"images/{self.split}/{self.id}.jpg"


def keep(
    frames: Sequence[SourceFrame], pictures: Sequence[Prepared], contents: Sequence[str]
) -> tuple[list[Kept], list[Fault]]:
    """The frames whose picture is usable, and the faults of those that copy an earlier one.

    A negative that copies an accident-free frame is dropped, as in the paper (section 4.1). One
    that copies a frame with boxes is a contradiction and stays until `splitting.conflicts` judges
    it. An accident frame that is a copy stays, because dropping it would change the published
    split; it is reported as a leak.
    """
    kept: list[Kept] = []
    faults: list[Fault] = []
    first_of: dict[str, SourceFrame] = {}
    first_without_boxes: dict[str, SourceFrame] = {}
    records = zip(frames, pictures, contents, strict=True)
    for position, (frame, picture, content) in enumerate(records):
        if picture.size is None:
            continue
        original = first_of.setdefault(content, frame)
        if not frame.accidents:
            without_boxes = first_without_boxes.setdefault(content, frame)
            original = without_boxes if frame.negative else original
        if original is not frame:
            kind = "duplicate-negative" if frame.negative else "duplicate-frame"
            faults.append(Fault(kind, frame.file, None, f"copy of {original.file}"))
            if frame.negative:
                continue
        kept.append(Kept(frame, picture, content, position))
    return kept, faults


def picture_faults(frames: Sequence[SourceFrame], pictures: Sequence[Prepared]) -> list[Fault]:
    """What was wrong with the pictures, in the order of the frames."""
    faults = []
    for frame, picture in zip(frames, pictures, strict=True):
        for kind, detail in picture.faults:
            faults.append(Fault(kind, frame.file, None, detail))
    return faults


def demand_pictures(
    kept: Sequence[Kept], frames: Sequence[SourceFrame], faults: Sequence[Fault], sources: Sources
) -> None:
    """Refuse a source without one usable picture of an accident frame.

    Raises:
        DataError: says what was wrong with the pictures.
    """
    if any(not frame.negative for frame in kept):
        return
    told = _losses(faults) or "none found"
    raise DataError(
        f"of {len(frames):,} pictures no accident frame is usable: {told}", sources.accidents
    )


def _losses(faults: Sequence[Fault]) -> str:
    """What took frames out of the set, in words; empty if nothing did."""
    losing = [fault for fault in faults if fault.kind in LOSING]
    if not losing:
        return ""
    reasons = Counter(fault.kind for fault in losing).most_common(_MOST_REASONS)
    told = ", ".join(f"{count:,} {kind}" for kind, count in reasons)
    return f"{told} (the first: {losing[0].file}, {losing[0].detail})"


def demand_frames(kept: Sequence[Kept], sources: Sources, faults: Sequence[Fault] = ()) -> None:
    """Refuse a set that nothing could be trained or measured on.

    Args:
        faults: told as the reason, of whichever split they are.

    Raises:
        DataError: a split has no accident frame; or the source has negatives, none of them usable.
    """
    filled = {frame.split for frame in kept if not frame.negative}
    for split in SPLITS:
        if split not in filled:
            losses = _losses(faults)
            told = f"; lost in all splits: {losses}" if losses else ""
            raise DataError(
                f"no usable frame in the split {split}{told} (--leak-free makes new splits; "
                "--on-conflict keep leaves no frame out whose labels contradict another's)",
                sources.accidents,
            )
    if sources.negatives and not any(frame.negative for frame in kept):
        raise DataError("no usable accident-free frame", sources.negatives)
