"""What was reviewed, as labelled pictures for training: a zip that `data.prep.build` reads.

A picture is a ROI crop, with the alert's boxes moved into it. A boxed image never is one: lines are
drawn into it, and a gate trained on it would learn the lines. What cannot become a picture is
listed with the reason.
"""

import asyncio
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import Connection, Row, select

from dat_runtime.cloud import uploads
from dat_runtime.cloud.alerts import key_of
from dat_runtime.cloud.jpeg import jpeg_size
from dat_runtime.cloud.tables import events, revisions
from dat_runtime.cloud.upload_files import Files
from dat_runtime.cloud.verdicts import reviews
from dat_runtime.types import SEVERITIES, Box, Size

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver

MAX_PICTURES = 50_000
"""In one zip: with its label each is two entries, and `data.prep.build` reads 200,000."""

PIECE = 1 << 17
"""Bytes of a picture in memory."""

SMALLEST_SIDE = 10
"""Pixels: `data.prep.build` leaves out smaller pictures."""

SMALLEST_SHARE = 0.1
"""Of a box's area that lies in the ROI: less of an accident is no example of it. Ultralytics draws
the same line where it crops (`box_candidates`)."""

_SAID = (
    reviews.c.verdict.label("said"),
    reviews.c.note,
    reviews.c.by,
    reviews.c.at,
    reviews.c.revision.label("seen"),
)
"""Of a review, beside the columns of its event."""

_AT_A_TIME = 50
"""Events that are looked up in one read."""

COMMAND = (
    "python -m data.prep.build --source reviews.zip --without negatives trace --leak-free "
    "--out OUT/reviews"
)

_DATA_YAML = f"""# {COMMAND}
# All pictures lie in train/: --leak-free makes the splits, by groups that belong together.
train: train/images
val: valid/images
test: test/images
nc: {len(SEVERITIES)}
names: [{", ".join(SEVERITIES)}]
"""

_README = f"""Events that operators confirmed or dismissed, as a YOLO set.

    {COMMAND}

train/images   ROI crops as the nodes sent them
train/labels   confirmed: the alert's boxes, moved into the crop; dismissed: empty, no accident
reviews.jsonl  every verdict: who, when, note, and the picture, or why there is none

Boxes and severities are those that the alert stated and the operator saw. Boxed images are left
out: lines are drawn into them.
"""

_FOLDERS = [
    f"{split}/{kind}/" for split in ("train", "valid", "test") for kind in ("images", "labels")
]


@dataclass(frozen=True)
class Labelled:
    """A review on its way into the zip.

    Attributes:
        review: what `reviews.jsonl` says of it.
        name: of the picture and its label, without a suffix; "" when it is left out.
        rows: of the label file.
        file: of the picture.
    """

    review: dict[str, Any]
    name: str = ""
    rows: tuple[str, ...] = ()
    file: Path | None = None


async def archive(receiver: "Receiver", node: str | None) -> AsyncGenerator[bytes]:
    """The zip, piece by piece; the same reviews give the same bytes.

    Args:
        node: whose events; `None` for all.
    """
    sink = _Sink()
    pictures = 0
    with tempfile.TemporaryFile() as told, zipfile.ZipFile(sink, "w") as opened:
        _add(opened, "data.yaml", _DATA_YAML.encode())
        _add(opened, "README.txt", _README.encode())
        for folder in _FOLDERS:
            _add(opened, folder, b"")
        async for item in _labelled(receiver, node):
            file = None
            if item.file is not None and pictures < MAX_PICTURES:
                file = await asyncio.to_thread(_opened, item.file)
            if file is not None:
                pictures += 1
                _add(opened, f"train/labels/{item.name}.txt", "".join(item.rows).encode())
                with file, opened.open(_entry(f"train/images/{item.name}.jpg"), "w") as entry:
                    while piece := await asyncio.to_thread(file.read, PIECE):
                        entry.write(piece)
                        yield sink.taken()
            _tell(told, item, file is not None, pictures)
        told.seek(0)
        with opened.open(_entry("reviews.jsonl"), "w") as entry:
            while piece := told.read(PIECE):
                entry.write(piece)
                yield sink.taken()
    yield sink.taken()


def _tell(told: IO[bytes], item: Labelled, is_in: bool, pictures: int) -> None:
    line = dict(item.review)
    if is_in:
        line["picture"] = f"train/images/{item.name}.jpg"
    elif item.file is not None:
        full = pictures >= MAX_PICTURES
        line["left_out"] = f"more than {MAX_PICTURES:,}" if full else "the picture was removed"
    told.write(json.dumps(line).encode() + b"\n")


def _opened(file: Path) -> BinaryIO | None:
    try:
        return file.open("rb")
    except FileNotFoundError:  # retention took it since it was looked up
        return None


async def _labelled(receiver: "Receiver", node: str | None) -> AsyncIterator[Labelled]:
    """Every verdict that counts, in the order in which the events first came."""
    files = Files(receiver.folder / "visuals")
    after = 0
    while True:

        def work(connection: Connection, after: int = after) -> list[tuple[int, Labelled]]:
            rows = _judged(connection, after, node)
            return [(row.number, _label(connection, row, files)) for row in rows]

        found = await receiver.store.read(work)
        for number, item in found:
            yield item
            after = number
        if len(found) < _AT_A_TIME:
            return


def _judged(connection: Connection, after: int, node: str | None) -> Sequence[Row[Any]]:
    query = (
        select(events, *_SAID)
        .join(reviews, reviews.c.event == events.c.number)
        .where(reviews.c.current, reviews.c.verdict != "open", events.c.number > after)
        .order_by(events.c.number)
        .limit(_AT_A_TIME)
    )
    if node is not None:
        query = query.where(events.c.node == node)
    return connection.execute(query).all()


def _label(connection: Connection, row: Row[Any], files: Files) -> Labelled:
    """The label that a verdict gives, with its picture, or why there is none."""
    review = {
        "node": row.node,
        "id": row.id,
        "camera": row.camera,
        "verdict": row.said,
        "note": row.note,
        "by": row.by,
        "at": row.at,
        "revision": row.seen,
    }
    try:
        roi = uploads.shown(connection, row.number, "roi")
        if roi is None:
            raise LookupError("there is no ROI")
        file = files.path(roi.key)
        size = _size(file)
        data = _data(connection, row.number, roi.revision, size)
        rows = _rows(data, size) if row.said == "confirmed" else ()
    except LookupError as reason:
        return Labelled(review | {"left_out": str(reason.args[0])})
    return Labelled(review, _name(row), rows, file)


def _size(file: Path) -> Size:
    """The size of a ROI that can be trained on."""
    try:
        with file.open("rb") as opened:
            size = jpeg_size(opened)
    except OSError:
        raise LookupError("the ROI was removed") from None
    except ValueError as error:
        raise LookupError(f"the ROI {error}") from None
    if min(size.width, size.height) < SMALLEST_SIDE:
        raise LookupError(f"the ROI has {size.width} x {size.height} pixels: too few")
    return size


def _data(connection: Connection, event: int, revision: int, size: Size) -> dict[str, Any]:
    """The alert's data at the revision that the ROI shows: another one's boxes lie elsewhere."""
    content = connection.execute(
        select(revisions.c.content).where(
            revisions.c.event == event, revisions.c.revision == revision
        )
    ).scalar_one()
    data: dict[str, Any] = json.loads(content)["data"]
    x1, y1, x2, y2 = data.get("roi") or (0, 0, 0, 0)
    if (x2 - x1, y2 - y1) != (size.width, size.height):
        raise LookupError(
            f"the ROI has {size.width} x {size.height} pixels, its alert says {x2 - x1} x {y2 - y1}"
        )
    return data


def _rows(data: dict[str, Any], size: Size) -> tuple[str, ...]:
    """The rows of a label file: the boxes as far as they lie in the ROI, in shares of its sides."""
    accidents = data["answer"]["accidents"]
    if not accidents:
        raise LookupError("the alert states no accident: nothing to draw a box around")
    left, top = data["roi"][:2]
    rows = []
    for accident in accidents:
        x1, y1, x2, y2 = accident["bbox"]
        box = Box(x1 - left, y1 - top, x2 - left, y2 - top, size)
        inside = box.clipped()
        if inside.area < SMALLEST_SHARE * box.area or not inside.area:
            continue
        share = inside.to(_UNIT)
        numbers = (
            (share.x1 + share.x2) / 2,
            (share.y1 + share.y2) / 2,
            share.x2 - share.x1,
            share.y2 - share.y1,
        )
        class_id = SEVERITIES.index(accident["severity"])
        rows.append(f"{class_id} {' '.join(f'{number:.6f}' for number in numbers)}\n")
    if not rows:
        raise LookupError("none of the alert's boxes lies in the ROI")
    return tuple(rows)


_UNIT = Size(1, 1)


def _name(row: Row[Any]) -> str:
    """A file name that is unique, and from which `data.prep.build` sees what is of one camera."""
    digest = hashlib.sha256(key_of(row.node, row.id).encode()).hexdigest()[:12]
    return f"{row.node}_{row.camera}_{round(row.captured_at * 1000)}_{digest}"


class _Sink(io.RawIOBase):
    """Takes what `zipfile` writes until it is sent. It cannot be sought in, as a socket cannot."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._held += content
        return len(content)

    def taken(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held


def _add(opened: zipfile.ZipFile, name: str, content: bytes) -> None:
    opened.writestr(_entry(name), content)


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without a time or a system of its own: the same reviews give the same bytes."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
    return entry
