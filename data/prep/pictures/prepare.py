"""The work on each picture, the same function on threads and on Ray, and what it need not redo.

`pictures.jsonl` of a prepared set lists every picture of the source with what was found in it. The
next build takes a picture whose bytes are unchanged from there, if the code is unchanged too.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import PIL

from dat_runtime import manifest
from dat_runtime.errors import ManifestError
from dat_runtime.types import Size
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures import decode, looks, tones
from data.prep.pictures.decode import (
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
    """One picture to prepare: an accident frame as it is, or a negative resampled and corrected."""

    source: Path
    target: Path
    negative: bool
    declared: Size | None = None


@dataclass(frozen=True)
class Prepared:
    """What a picture is. `size` is None, and nothing was written, where it could not be used."""

    sha256: str
    """Of the file's bytes."""
    size: Size | None
    look: str
    """`looks.look_of`, in hexadecimal."""
    faults: tuple[tuple[str, str], ...]
    """(kind, detail)"""


@dataclass(frozen=True)
class Known:
    """A picture of an earlier build, with the image that was written then."""

    prepared: Prepared
    image: Path | None
    image_sha256: str | None


Memory = Mapping[tuple[bool, str], Known]
"""By negative or not, and the sha256 of the source's bytes."""


def prepare_all(
    frames: Sequence[SourceFrame], staging: Path, memory: Memory, engine: Engine
) -> Iterator[Prepared]:
    """Write each frame's picture to `staging/<number>.jpg`; yields what it is, in order."""
    target = staging.absolute()
    jobs = [
        Job(frame.path.absolute(), target / f"{i}.jpg", frame.negative, frame.declared)
        for i, frame in enumerate(frames)
    ]
    return over_all(partial(prepare, memory=memory), jobs, "pictures", engine)


def prepare(job: Job, memory: Memory) -> Prepared:
    """Read, check and write one picture; a sound JPEG of an accident frame keeps its bytes."""
    data = file_bytes(job.source)
    sha256 = hashlib.sha256(data).hexdigest()
    if (known := memory.get((job.negative, sha256))) and _reuse(known, job, data):
        return known.prepared
    try:
        picture = decoded(data)
    except UnreadableImage as error:
        return Prepared(sha256, None, "", ((error.kind, error.detail),))
    size, declared = picture.size, job.declared
    if declared is not None and size != declared:
        told = f"{size.width} x {size.height}, labels say {declared.width} x {declared.height}"
        return Prepared(sha256, None, "", (*picture.repairs, ("size-mismatch", told)))
    if job.negative:
        write_jpeg(tones.corrected(picture.rgb), job.target)
        size = Size(tones.SIDE, tones.SIDE)
    elif picture.jpeg is not None:
        job.target.write_bytes(picture.jpeg)
    else:
        write_jpeg(picture.rgb, job.target)
    look = looks.look_of(picture.rgb).hex()
    return Prepared(sha256, size, look, picture.repairs)


def _reuse(known: Known, job: Job, data: bytes) -> bool:
    """Write the earlier image, if it is still what was written then."""
    if known.image is None or (job.declared not in (None, known.prepared.size)):
        return False
    if known.image_sha256 != known.prepared.sha256:
        try:
            data = known.image.read_bytes()
        except FileNotFoundError:
            return False
        if hashlib.sha256(data).hexdigest() != known.image_sha256:
            return False
    job.target.write_bytes(data)
    return True


def contents(
    frames: Sequence[SourceFrame], prepared: Sequence[Prepared], engine: Engine
) -> list[str]:
    """For each picture a digest, equal exactly where two pictures have the same pixels.

    Equal pixels look alike, so only pictures whose look is another's, in a file of other bytes, are
    decoded once more and compared by their pixels.
    """
    files = defaultdict(set)
    for picture in prepared:
        files[picture.look].add(picture.sha256)
    again = {
        picture.sha256: frame.path.absolute()
        for frame, picture in zip(frames, prepared, strict=True)
        if picture.size is not None and len(files[picture.look]) > 1
    }
    digests = over_all(_content, list(again.values()), "pictures that look alike", engine)
    found = dict(zip(again, digests, strict=True))
    return [found.get(picture.sha256, picture.sha256) for picture in prepared]


def _content(path: Path) -> str:
    return read_picture(path).content


def recall(out: Path) -> dict[tuple[bool, str], Known]:
    """The pictures of the set at `out`, empty if there is none or it was made by other code."""
    try:
        outputs = manifest.read(out, "data").outputs
        lines = (out / LEDGER).read_text().splitlines()
    except (ManifestError, FileNotFoundError):
        return {}
    if not lines or json.loads(lines[0]) != {"code": _code()}:
        return {}
    memory = {}
    for row in map(json.loads, lines[1:]):
        image = row["image"]
        prepared = Prepared(
            row["sha256"],
            Size(*row["size"]) if row["size"] else None,
            row["look"],
            tuple((kind, detail) for kind, detail in row["faults"]),
        )
        written = (out / image, outputs.get(image)) if image else (None, None)
        memory[row["negative"], row["sha256"]] = Known(prepared, *written)
    return memory


def write_ledger(rows: Iterable[tuple[SourceFrame, Prepared, str | None]], path: Path) -> None:
    """One line a picture, in the source's order; `image` is its place in the set, if it has one."""
    with path.open("w") as file:
        file.write(json.dumps({"code": _code()}) + "\n")
        for frame, prepared, image in rows:
            row = {
                "file": frame.file,
                "negative": frame.negative,
                "image": image,
                "sha256": prepared.sha256,
                "size": prepared.size and [prepared.size.width, prepared.size.height],
                "look": prepared.look,
                "faults": prepared.faults,
            }
            file.write(json.dumps(row) + "\n")


def _code() -> str:
    """Of what decides a picture's result: this code and Pillow's version."""
    sha = hashlib.sha256(PIL.__version__.encode())
    for module in (decode, looks, tones):
        sha.update(Path(module.__file__).read_bytes())
    sha.update(Path(__file__).read_bytes())
    return sha.hexdigest()
