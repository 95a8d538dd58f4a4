"""YOLO data sets of untrusted origin: class names, images, label files (`yolo_folders` finds them).

A row of a label file is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, in
fractions of the picture's width and height (Ultralytics' YOLO format). Trackers write the number of
the track behind the box, `class cx cy w h [confidence] track`; pose sets their key points.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.types import Accident, Box
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.faults import Fault
from data.prep.importers.labels import (
    UNIT,
    Row,
    accident_of,
    left_out,
    merged,
    no_accident,
    without_severity,
)
from data.prep.importers.listing import find_files
from data.prep.importers.plain_yaml import plain_yaml
from data.prep.importers.source_frame import SUFFIXES, Ids, Scan, SourceFrame
from data.prep.importers.sources import Sources, faults_of_files
from data.prep.importers.yolo_folders import NO_LABELS, Part, names_file, parts

_MAX_LABEL_BYTES = 1024 * 1024
"""A row takes some 40 bytes, so this is over 20,000 boxes in one picture."""
_TXT = frozenset({".txt"})


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """Images paired with label files, and the faults of both."""
    names_path = names_file(sources.accidents)
    assert names_path is not None  # the set was found by it
    names, faults = read_names(names_path, sources.name(names_path), classes)
    key_points = _key_point_values(names_path)
    scanned = Scan([], faults, {})
    used: set[Path] = set()
    found = parts(sources.accidents, names_path)
    for part in found:
        pairs = _pairs(part, sources, scanned, used)
        if part.split is not None:
            counted = scanned.published.get(part.split, 0) + len(pairs)
            scanned.published[part.split] = counted
        for image, label in pairs.items():
            if label is not None:
                frame = _frame(part, image, label, sources, names, key_points, ids, faults)
                scanned.frames.extend(frame)
    faults += _unlisted(found, used, sources)
    faults[:] = dict.fromkeys(faults)  # the lists of two splits may share their folders
    return scanned


def _pairs(part: Part, sources: Sources, scanned: Scan, used: set[Path]) -> dict[Path, Path | None]:
    """The pictures of a part that no earlier part has, each with its label file if there is one."""
    if not part.labels.is_dir():
        raise DataError("no such folder, but the set's layout needs it", part.labels)
    together = part.images == part.labels
    no_labels = {name for name in NO_LABELS if not name.endswith(".txt")}
    images = find_files(part.images, SUFFIXES, {*_TXT, *no_labels} if together else (), part.deep)
    labels = find_files(part.labels, _TXT, SUFFIXES | no_labels if together else no_labels)
    faults = scanned.faults
    faults += faults_of_files(images, sources)
    faults += [] if together else faults_of_files(labels, sources)
    by_path = {image: stem for stem, image in images.files.items()}
    pairs: dict[Path, Path | None] = {}
    for image in images.files.values() if part.listed is None else part.listed:
        file = sources.name(image)
        if image not in by_path:
            faults.append(Fault("orphan-label", file, None, "is listed but is no image"))
        elif image in used:
            detail = f"belongs to an earlier split than {part.split}"
            faults.append(Fault("same-split", file, None, detail))
        else:
            used.add(image)
            pairs[image] = labels.files.get(by_path[image])
            if pairs[image] is None:
                faults.append(Fault("orphan-image", file, None, "has no label file"))
    for stem, label in labels.files.items():
        here = label.name not in NO_LABELS and (part.deep or label.parent == part.labels)
        if stem not in images.files and here:
            fault = Fault("orphan-label", sources.name(label), None, "has no image")
            faults.append(fault)
    return pairs


def _frame(
    part: Part,
    image: Path,
    label: Path,
    sources: Sources,
    names: Sequence[Mapped],
    key_points: int,
    ids: Ids,
    faults: list[Fault],
) -> list[SourceFrame]:
    """The frame of a picture and its label file; none if it is left out. Faults are added."""
    file = sources.name(image)
    accidents, label_faults = read_labels(label, sources.name(label), names, key_points)
    faults += label_faults
    reason = left_out(accidents, label_faults)
    if reason:
        faults.append(Fault(reason[0], file, None, reason[1]))
        return []
    return [SourceFrame(ids.of(image.stem), part.split, image, file, accidents)]


def _unlisted(found: Sequence[Part], used: set[Path], sources: Sources) -> list[Fault]:
    """A fault for each picture that lies beside listed ones and is in no list."""
    faults = []
    for folder in {part.images: None for part in found if part.listed is not None}:
        for image in find_files(folder, SUFFIXES, NO_LABELS, deep=False).files.values():
            if image not in used:
                detail = "is in no list that data.yaml names"
                faults.append(Fault("orphan-image", sources.name(image), None, detail))
    return faults


def read_names(path: Path, name: str, classes: Classes) -> tuple[list[Mapped], list[Fault]]:
    """Severity of each class id, from a data.yaml or another file of class names, and its faults.

    Raises:
        DataError: it cannot be read, or a class is not mapped to a severity.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_data_yaml(path, name, classes)
    if path.suffix.lower() == ".json":
        return classes.of(_noted_names(path), path), []
    lines = files.read_text(path, DataError, most_bytes=_MAX_LABEL_BYTES).splitlines()
    names = [line.strip().removeprefix("\ufeff") for line in lines]
    while names and not names[-1]:
        names.pop()
    notes = path.with_name("notes.json")
    if notes.is_file() and _noted_names(notes) != names:
        raise DataError(f"names other classes than {path.name}, or in another order", notes)
    return classes.of(names, path), []


def _noted_names(path: Path) -> list[str]:
    """The class names of Label Studio's notes.json, in the order of their ids."""
    content = files.read_json(path, DataError, most_bytes=_MAX_LABEL_BYTES)
    try:
        names = {row["id"]: str(row["name"]) for row in content["categories"]}
    except (KeyError, TypeError):
        raise DataError("expected `categories`, each with `id` and `name`", path) from None
    return [str(name) for name in _class_names(names, path)]


def _key_point_values(path: Path) -> int:
    """How many numbers stand behind each box: `kpt_shape: [points, values]` of a pose set."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return 0
    match plain_yaml(path):
        case {"kpt_shape": [int() as points, int() as values]} if points > 0 and values in (2, 3):
            return points * values
    return 0


def read_data_yaml(
    path: Path, name: str, classes: Classes | None = None
) -> tuple[list[Mapped], list[Fault]]:
    """Severity of each class id of a data.yaml, and its faults; `download` is ignored.

    Raises:
        DataError: it is not a plain YAML mapping, or a class is not mapped to a severity.
    """
    content = plain_yaml(path)
    if not isinstance(content, dict) or "names" not in content:
        raise DataError("expected a mapping with `names`", path)
    mapped = (classes or Classes()).of(_class_names(content["names"], path), path)
    if content.get("nc", len(mapped)) != len(mapped):
        raise DataError(f"nc is {content['nc']!r:.80} but `names` has {len(mapped)}", path)
    faults = []
    if "download" in content:
        # Ultralytics executes it when the images are missing (`check_det_dataset`).
        detail = f"download: {content['download']!r:.80}"
        faults.append(Fault("download-key", name, None, detail))
    return mapped, faults


def _class_names(names: Any, path: Path) -> list[Any]:
    """Class names in the order of their ids, from a list or from a mapping of ids to names."""
    if isinstance(names, dict):
        by_id = {_whole(key): name for key, name in names.items()}
        if by_id.keys() != set(range(len(names))):
            raise DataError(
                f"class ids of `names` must be 0, 1, ..., got {list(names)!r:.200}", path
            )
        return [by_id[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"`names` must be a list or a mapping, got {names!r:.200}", path)
    return names


def _whole(key: object) -> int | None:
    """A class id, which YAML and JSON also give as text."""
    if type(key) is int:
        return key
    return int(key) if isinstance(key, str) and key.isascii() and key.isdecimal() else None


def read_labels(
    path: Path, file: str, names: Sequence[Mapped], key_points: int = 0
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """`parse_labels` of a file; one over a mebibyte is refused unread."""
    try:
        content = files.read_bytes(path, most_bytes=_MAX_LABEL_BYTES)
    except DataError as error:
        detail = str(error).removeprefix(f"{path}: ")
        return (), [Fault("unreadable-label", file, None, detail)]
    # Bytes that are not UTF-8 become text that is not a number: a fault of its row, listed with the
    # others. `files.read_text` would stop at the first such file.
    return parse_labels(content.decode("utf-8-sig", errors="replace"), file, names, key_points)


def parse_labels(
    text: str, file: str, names: Sequence[Mapped], key_points: int = 0
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents of one label file and the faults found in it, by line.

    Boxes are in `UNIT`, inside it. `names` maps class ids to severities. Rows whose fault is
    refused give no accident; the caller leaves the frame out (`labels.left_out`).

    Args:
        key_points: how many numbers stand behind each box.
    """
    if not text.strip():
        return (), [Fault("empty-label", file, None, "no rows")]
    lines = text.split("\n")
    rows: list[Row] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows.append(_read_row(line.split(), names, key_points))
            numbers.append(number)
    accidents, faults = merged(rows, file, numbers)
    if not text.endswith("\n"):
        faults.append(Fault("no-final-newline", file, len(lines), "the file ends inside a row"))
    return accidents, faults


def _read_row(fields: list[str], names: Sequence[Mapped], key_points: int) -> Row:
    """The accident that the fields of one row give, or none, with the faults."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return no_accident("not-a-number", f"the row holds text: {_short(fields)}")
    if not all(map(math.isfinite, numbers)):
        return no_accident("not-a-number", f"the row holds NaN or infinity: {_short(fields)}")
    class_id = numbers[0]
    values = numbers[1:]
    if class_id not in range(len(names)):  # 0.5 is not in a range either
        known = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
        return no_accident("unknown-class", f"class {fields[0]}, the set names {known}")
    meaning = names[int(class_id)]
    row = without_severity(meaning, f"class {fields[0]}")
    if row:
        return row
    if len(values) == 4:
        return accident_of(_box_of_centre(*values), meaning)
    if key_points and len(values) == 4 + key_points:
        fault = ("pose-row", f"{key_points} numbers behind the box")
        return _with_fault(accident_of(_box_of_centre(*values[:4]), meaning), fault)
    if key_points:
        detail = f"{len(fields)} numbers, `kpt_shape` asks for {5 + key_points}: {_short(fields)}"
        return no_accident("malformed-row", detail)
    if len(values) in (5, 6) and fields[-1].isdecimal():
        return _tracked(fields, values, meaning)
    if len(values) >= 6 and len(values) % 2 == 0:
        return _polygon(values, meaning)
    return no_accident("malformed-row", f"{len(fields)} numbers: {_short(fields)}")


def _tracked(fields: list[str], values: list[float], meaning: Mapped) -> Row:
    """A row that ends with a whole number: a box with its track's id, or a triangle at the edge.

    Only a 0 or 1 behind six numbers can be a coordinate. What is then sound as a triangle and as
    a box inside the frame is refused.
    """
    boxed = accident_of(_box_of_centre(*values[:4]), meaning)
    if len(values) == 6 and values[-1] <= 1:
        if boxed.accident is None or boxed.faults:
            return _polygon(values, meaning)
        detail = f"a triangle, or a box with confidence and track id: {_short(fields)}"
        return no_accident("malformed-row", detail)
    return _with_fault(boxed, ("track-id", f"track {fields[-1]:.20}"))


def _polygon(values: list[float], meaning: Mapped) -> Row:
    xs, ys = values[::2], values[1::2]
    box = Box(min(xs), min(ys), max(xs), max(ys), UNIT)
    return accident_of(box, meaning, polygon_points=len(xs))


def _with_fault(row: Row, fault: tuple[str, str]) -> Row:
    return Row(row.accident, (*row.faults, fault))


def _box_of_centre(cx: float, cy: float, width: float, height: float) -> Box:
    return Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, UNIT)


def _short(fields: list[str]) -> str:
    text = " ".join(fields)
    if len(text) > 60:
        text = text[:57] + "..."
    return repr(text)
