"""The work on each picture, on threads or on Ray, and the results of an earlier build.

`pictures.jsonl` of a prepared set lists every picture of the source with its size, look and faults,
and `features.bin` what of each is compared with others (`pictures.records`). The next build takes a
picture whose bytes are unchanged from there, if the code is unchanged too
(docs/decisions/006-pictures-by-content.md).
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import PIL

from dat_runtime import files, manifest
from dat_runtime.edge import jpeg, source
from dat_runtime.errors import DataError, ManifestError
from dat_runtime.types import Size
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures import decode, local_features, looks, records, tones
from data.prep.pictures.decode import (
    Picture,
    UnreadableImage,
    decoded,
    file_bytes,
    read_picture,
    write_jpeg,
)
from data.prep.pictures.pool import Engine, over_all

LEDGER = "pictures.jsonl"


@dataclass(frozen=True)
class Job:
    """One picture to prepare: an accident frame unchanged, a negative resampled and corrected."""

    source: Path
    target: Path
    negative: bool
    declared: Size | None = None


@dataclass(frozen=True)
class Prepared:
    """The result for one picture. If it cannot be used, `size` is None and nothing was written."""

    sha256: str
    """The digest of the file's bytes."""
    size: Size | None
    look: str
    """`looks.look_of`, in hexadecimal."""
    faults: tuple[tuple[str, str], ...]
    """(kind, detail) of each fault."""


@dataclass(frozen=True)
class Known:
    """A picture of an earlier build, with the image that was written then.

    Attributes:
        record: the file of its record, and its number there (`records.read_one`).
    """

    prepared: Prepared
    image: Path | None
    image_sha256: str | None
    record: tuple[Path, int]


Memory = Mapping[tuple[bool, str], Known]
"""Keys: whether it is a negative, and the sha256 of the source's bytes."""


def prepare_all(
    frames: Sequence[SourceFrame], staging: Path, features: Path, memory: Memory, engine: Engine
) -> Iterator[Prepared]:
    """Write each frame's picture to `staging/<number>.jpg`; yields the results in order.

    Args:
        features: the file that gets their records, in the same order.
    """
    target = staging.absolute()  # Ray's workers have another working directory
    jobs = []
    for number, frame in enumerate(frames):
        image = target / f"{number}.jpg"
        jobs.append(Job(frame.path.absolute(), image, frame.negative, frame.declared))
    with features.open("wb") as file:
        for prepared, record in over_all(partial(prepare, memory=memory), jobs, "pictures", engine):
            file.write(record)
            yield prepared


def prepare(job: Job, memory: Memory) -> tuple[Prepared, bytes]:
    """Read, check and write one picture; a sound JPEG of an accident frame keeps its bytes.

    Returns:
        The result, and the picture's record.
    """
    try:
        data = file_bytes(job.source)
    except OSError as error:  # a broken disk, or a file that was removed meanwhile
        return _unusable("", ("corrupt-image", f"cannot be read ({error.strerror})"))
    sha256 = hashlib.sha256(data).hexdigest()
    known = memory.get((job.negative, sha256))
    if known and _reuse(known, job, data):
        return known.prepared, records.read_one(*known.record)
    try:
        picture = decoded(data)
    except UnreadableImage as error:
        return _unusable(sha256, (error.kind, error.detail))
    if job.declared is not None and picture.size != job.declared:
        # The boxes were divided by the declared size, so their place in this picture is unknown.
        labels_say = f"labels say {job.declared.width} x {job.declared.height}"
        detail = f"{picture.size.width} x {picture.size.height}, {labels_say}"
        return _unusable(sha256, *picture.repairs, ("size-mismatch", detail))
    size = _write(picture, job)
    grey = picture.rgb.convert("L")  # of the source's picture, before tones are changed
    view = looks.view_of(grey)
    look = looks.look_of_view(view).hex()
    return Prepared(sha256, size, look, picture.repairs), records.record_of(grey, view)


def _unusable(sha256: str, *faults: tuple[str, str]) -> tuple[Prepared, bytes]:
    return Prepared(sha256, None, "", faults), records.NOTHING


def _write(picture: Picture, job: Job) -> Size:
    """Write the picture as it will be in the set; its size there."""
    if job.negative:
        write_jpeg(tones.corrected(picture.rgb), job.target)
        return Size(tones.SIDE, tones.SIDE)
    if picture.jpeg is not None:
        job.target.write_bytes(picture.jpeg)
    else:
        write_jpeg(picture.rgb, job.target)
    return picture.size


def _reuse(known: Known, job: Job, data: bytes) -> bool:
    """Write the image of the earlier build again, if it is unchanged; returns whether it was."""
    if known.image is None:
        return False
    if job.declared is not None and job.declared != known.prepared.size:
        return False
    if known.image_sha256 == known.prepared.sha256:  # the image is the source's own bytes
        job.target.write_bytes(data)
        return True
    try:
        image = known.image.read_bytes()
    except FileNotFoundError:
        return False
    if hashlib.sha256(image).hexdigest() != known.image_sha256:
        return False
    job.target.write_bytes(image)
    return True


def contents(
    frames: Sequence[SourceFrame], prepared: Sequence[Prepared], engine: Engine
) -> list[str]:
    """For each picture a digest, which two pictures share exactly if they have the same pixels.

    Pictures with the same pixels have the same look. So only where files of different bytes share a
    look are the pictures decoded once more, and compared by their pixels.
    """
    files_of_look = defaultdict(set)
    for picture in prepared:
        files_of_look[picture.look].add(picture.sha256)
    to_compare: dict[str, Path] = {}
    for frame, picture in zip(frames, prepared, strict=True):
        if picture.size is not None and len(files_of_look[picture.look]) > 1:
            to_compare[picture.sha256] = frame.path.absolute()
    digests = over_all(_content, list(to_compare.values()), "pictures that look alike", engine)
    digest_of_file = dict(zip(to_compare, digests, strict=True))
    return [digest_of_file.get(picture.sha256, picture.sha256) for picture in prepared]


def _content(path: Path) -> str:
    return read_picture(path).content


def recall(out: Path) -> dict[tuple[bool, str], Known]:
    """The pictures of the set at `out`; empty if there is no set, or other code made it."""
    try:
        digests = manifest.read(out, "data").outputs
        for name in (LEDGER, records.NAME):
            if manifest.digest(out / name) != digests.get(name):
                return {}
        return _pictures_in(out, digests)
    except (ManifestError, DataError):  # without an earlier build all pictures are prepared again
        return {}


def _pictures_in(out: Path, image_digests: Mapping[str, str]) -> dict[tuple[bool, str], Known]:
    """The ledger of a set, read back.

    Raises:
        DataError: there is no ledger, or it cannot be read.
    """
    memory: dict[tuple[bool, str], Known] = {}
    features = (out / records.NAME).absolute()  # Ray's workers have another working directory
    for number, row in files.read_json_lines(out / LEDGER):
        if number == 1:
            if row != {"code": _code()}:
                return {}
            continue
        faults = tuple((kind, detail) for kind, detail in row["faults"])
        size = Size(*row["size"]) if row["size"] else None
        prepared = Prepared(row["sha256"], size, row["look"], faults)
        image = row["image"]
        record = (features, number - 2)  # the first line is no picture's
        if image is None:
            known = Known(prepared, None, None, record)
        else:
            known = Known(prepared, out / image, image_digests.get(image), record)
        memory[row["negative"], row["sha256"]] = known
    return memory


def write_ledger(rows: Iterable[tuple[SourceFrame, Prepared, str | None]], path: Path) -> None:
    """One line for each picture, in the source's order, with its place in the set if it has one.

    The first line holds the digest of the code that made them, for `recall`.
    """
    files.write_json_lines(path, _ledger_lines(rows))


def _ledger_lines(
    rows: Iterable[tuple[SourceFrame, Prepared, str | None]],
) -> Iterator[dict[str, Any]]:
    yield {"code": _code()}
    for frame, prepared, image in rows:
        size = prepared.size
        yield {
            "file": frame.file,
            "negative": frame.negative,
            "image": image,
            "sha256": prepared.sha256,
            "size": [size.width, size.height] if size else None,
            "look": prepared.look,
            "faults": prepared.faults,
        }


def _code() -> str:
    """The digest of what decides a picture's result: this code, Pillow's and OpenCV's version."""
    sha = hashlib.sha256(f"{PIL.__version__} {cv2.__version__}".encode())
    for module in (decode, jpeg, local_features, looks, records, source, tones):
        sha.update(Path(module.__file__).read_bytes())
    sha.update(Path(__file__).read_bytes())
    return sha.hexdigest()
