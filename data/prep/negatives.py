"""The paper's external negatives: Non Accident frames of the CCTV set (section 4.1).

Frames of all splits are resampled to 640 x 640, gamma corrected, freed of exact duplicates, and
split anew in the paper's proportion 268/120/120. The paper gives no gamma: 1.2 is our choice, which
brightens the mid tones of these dark recordings a little.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dat_runtime.types import Size
from data.prep.faults import Fault
from data.prep.images import SUFFIXES, UnreadableImage, read_picture, write_jpeg
from data.prep.pool import over_all
from data.prep.sources import SPLITS, Sources
from data.prep.yolo import Entry, Ids, image_path

SIDE = 640
GAMMA = 1.2
PAPER_SPLIT = {"train": 268, "val": 120, "test": 120}

_TONES = [round(255 * (value / 255) ** (1 / GAMMA)) for value in range(256)]


@dataclass(frozen=True)
class _Prepared:
    source: Path
    file: str
    path: Path
    content: str
    """Digest of the source's pixels; empty where it could not be read."""
    faults: list[Fault]


def write_negatives(
    sources: Sources, folder: Path, ids: Ids, seen: Mapping[str, str], seed: int
) -> tuple[list[Entry], list[Fault], int]:
    """Write the negatives' images; returns what was written, the faults, and the number found.

    `seen` maps the content of the accident frames to their file: a copy of one is no negative.
    """
    found, faults = _files(sources)
    staging = folder / "negatives"
    staging.mkdir()

    def work(numbered: tuple[int, Path]) -> _Prepared:
        number, source = numbered
        return _prepare(source, sources.name(source), staging / f"{number}.jpg")

    kept: dict[str, _Prepared] = {}
    files = dict(seen)
    for frame in over_all(work, list(enumerate(found)), "accident-free frames"):
        faults += frame.faults
        if not frame.content:
            continue
        if frame.content in files:
            detail = f"copy of {files[frame.content]}"
            faults.append(Fault("duplicate-negative", frame.file, None, detail))
            frame.path.unlink()
            continue
        files[frame.content] = frame.file
        kept[frame.content] = frame
    split_of = split(list(kept), seed)
    entries = []
    for content, frame in kept.items():
        entry = Entry(
            id=ids.of(f"negative_{frame.source.stem}"),
            split=split_of[content],
            size=Size(SIDE, SIDE),
            accidents=(),
            negative=True,
        )
        frame.path.rename(image_path(folder, entry.split, entry.id))
        entries.append(entry)
    staging.rmdir()
    return entries, faults, len(found)


def _files(sources: Sources) -> tuple[list[Path], list[Fault]]:
    files, faults = [], []
    for name in SPLITS:
        for path in sorted(sources.negative_folder(name).iterdir()):
            if path.is_file() and path.suffix.lower() in SUFFIXES:
                files.append(path)
            else:
                faults.append(
                    Fault("stray-file", sources.name(path), None, "no image by its suffix")
                )
    return files, faults


def _prepare(source: Path, file: str, path: Path) -> _Prepared:
    try:
        picture = read_picture(source)
    except UnreadableImage as error:
        return _Prepared(source, file, path, "", [Fault(error.kind, file, None, error.detail)])
    write_jpeg(corrected(picture.rgb), path)
    faults = [Fault(kind, file, None, detail) for kind, detail in picture.repairs]
    return _Prepared(source, file, path, picture.content, faults)


def corrected(rgb: Image.Image) -> Image.Image:
    """The picture resampled to 640 x 640 (bicubic) and gamma corrected."""
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return rgb.point(_TONES * 3)


def split(contents: Sequence[str], seed: int) -> dict[str, str]:
    """A split for each content, in the proportion 268/120/120, by largest remainder.

    The order is that of a hash of seed and content: names and order of files do not matter.
    """
    total = sum(PAPER_SPLIT.values())
    shares = {name: len(contents) * part / total for name, part in PAPER_SPLIT.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: len(contents) - sum(counts.values())]:
        counts[name] += 1
    names = [name for name in SPLITS for _ in range(counts[name])]
    return dict(zip(sorted(contents, key=lambda c: _rank(c, seed)), names, strict=True))


def _rank(content: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()
