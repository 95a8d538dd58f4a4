"""Faults of a source: each kind, and the one rule for it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError

RULES: dict[str, str] = {
    # data.yaml
    "download-key": "ignored: nothing in a data.yaml is ever run",
    # sets
    "other-annotations": "left out: a further annotation file of the same pictures",
    "same-split": "counted once: pictures that data.yaml names for a second split too",
    # rows of a label file
    "unknown-class": "refused: a class id that data.yaml does not name",
    "not-a-number": "refused: NaN, infinity or text where a number belongs",
    "malformed-row": "refused: neither `class cx cy w h` nor `class x1 y1 x2 y2 x3 y3 ...`",
    "track-id": "repaired: a track id behind the box is left out",
    "pose-row": "repaired: the key points behind the box are left out",
    "not-normalised": "refused: an edge more than half a frame outside, so not in [0, 1] units",
    "polygon-row": "repaired: replaced by the box around the polygon",
    "outside-frame": "repaired: clipped to the frame",
    "near-zero-box": "dropped: the box, a side under 0.2 % of the frame",
    "duplicate-row": "dropped: the second of two equal rows",
    "two-classes": "dropped: the milder of two rows with one box and two classes",
    "crowd-region": "dropped: the region, as a crowd (`iscrowd`) is not the box of one accident",
    "ignored-class": "dropped: the box, as the class mapping says `ignore`",
    "none-class": "dropped: the box, as the class mapping says `none`: no accident",
    "no-final-newline": "accepted: the last row is still read",
    "empty-label": "accepted: an accident-free frame",
    # label files, and frames by their labels
    "unreadable-label": "refused: a label file that cannot be read",
    "same-id": "refused: two pictures under one id, so whose boxes are whose is not known",
    "listed-twice": "repaired: the boxes of all entries of one picture are taken together",
    "no-size": "repaired: the picture's own size, as its label states none",
    "bad-label": "left out: the frame, as its label has a refused fault (--on-bad-label skip)",
    "only-ignored": "left out: the frame, as all its boxes are of ignored classes (map them to "
    "`none` to have it as accident-free)",
    "no-usable-box": "left out: the frame, as its label names an accident but no usable box",
    "orphan-image": "left out: no label file, so not known to be accident-free",
    "orphan-label": "left out: a label file without its image",
    "same-name": "left out: a second image of the same name for one label file",
    "system-file": "left out: hidden, or left by an operating system (._name, .DS_Store)",
    "stray-file": "left out: by its suffix neither an image (in images) nor a label (in labels)",
    # pictures
    "size-mismatch": "left out: the picture has another size than its labels say",
    "empty-file": "left out: 0 bytes",
    "not-an-image": "left out: the content is not JPEG, PNG, BMP, WebP or TIFF",
    "image-size": "left out: over 40 megapixels or 64 MiB, a side under 10 pixels, or over 20 "
    "times the other",
    "corrupt-image": "left out: does not decode to its end",
    "rotated-image": "repaired: turned upright by its EXIF tag (boxes are of the upright picture)",
    "colour-mode": "repaired: converted to 8-bit RGB",
    "not-jpeg": "repaired: encoded as JPEG",
    "bad-jpeg-end": "repaired: encoded anew, as bytes follow its end or its end marker is missing",
    "duplicate-negative": "dropped: an exact copy of an earlier accident-free frame",
    "duplicate-frame": "kept, and reported as a leak across splits: a copy of an earlier frame",
    "conflicting-labels": "resolved by --on-conflict (default: left out of train, kept and marked "
    "in val and test): one picture with two truths",
}

WANTED = frozenset({"ignored-class", "none-class", "only-ignored", "system-file"})
"""Not refused under --strict: the user asked for it, or it is no part of the set."""

REFUSED = frozenset(kind for kind, rule in RULES.items() if rule.startswith("refused"))
LOSING = frozenset(
    k for k, rule in RULES.items() if rule.startswith(("refused", "left", "resolved"))
)
"""Kinds that take frames, or files that might be some, out of a set."""
_MOST_NAMED = 10
"""Faults that an error names. The report lists all faults, but a refused set has no report."""


@dataclass(frozen=True)
class Fault:
    """One fault; `file` is relative to the source, `line` counts from 1."""

    kind: str
    file: str
    line: int | None
    detail: str

    def __post_init__(self) -> None:
        if self.kind not in RULES:
            raise ValueError(f"no rule for a fault of the kind {self.kind!r}")


def refuse(
    faults: Iterable[Fault],
    path_of: Callable[[str], Path],
    strict: bool,
    skip_bad_labels: bool = False,
) -> None:
    """Stop at a fault that is refused; with `strict`, at any fault.

    Frames with a refused fault are left out of every scan (`bad-label`). With `skip_bad_labels`
    that is enough, and nothing is refused.

    Raises:
        DataError: begins with the first fault's file and line, and names up to ten faults.
    """
    if strict:
        refused = [fault for fault in faults if fault.kind not in WANTED]
    elif skip_bad_labels:
        refused = []
    else:
        refused = [fault for fault in faults if fault.kind in REFUSED]
    if not refused:
        return
    first, *further = refused
    message = f"{first.kind}: {first.detail}"
    if further:
        named = further[: _MOST_NAMED - 1]
        message += f"; {len(further)} further: {', '.join(map(_place, named))}"
        if len(further) > len(named):
            message += f", and {len(further) - len(named)} more"
    if strict:
        message += " (--strict refuses every fault; without it, those with a repair are repaired)"
    else:
        message += " (--on-bad-label skip leaves such frames out)"
    raise DataError(message, path_of(first.file), first.line)


def _place(fault: Fault) -> str:
    line = f":{fault.line}" if fault.line else ""
    return f"{fault.file}{line} {fault.kind}"


def summary(faults: Sequence[Fault]) -> dict[str, Any]:
    """Counts, rules and the whole list, for `report.json`."""
    counts = Counter(fault.kind for fault in faults)
    return {
        "counts": {kind: counts[kind] for kind in RULES if counts[kind]},
        "rules": {kind: RULES[kind] for kind in RULES if counts[kind]},
        "list": [vars(fault) for fault in faults],
    }
