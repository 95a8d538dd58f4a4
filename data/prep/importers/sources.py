"""Finding the parts of a source by their layout. Nothing in it is executed or changed.

Accident frames with boxes:
    yolo    data.yaml beside train|valid|test/{images,labels} (Roboflow, as the paper's set)
    coco    <split>/_annotations.coco.json beside the images, or annotations/*.json, or one
            annotations.json beside images/
    voc     <split>/*.xml beside the images, or Annotations/, JPEGImages/ and ImageSets/Main/
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from data.prep.importers import traces

PARTS = ("accidents", "negatives", "trace")
OPTIONAL = PARTS[1:]
DEPTH = 3

Layout = Literal["yolo", "coco", "voc"]

_ACCIDENT_SPLITS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
_SPLIT_FOLDERS = tuple(name for names in _ACCIDENT_SPLITS.values() for name in names)
_EXPECTED = {
    "accidents": "accident frames (expected data.yaml beside train|valid|test/{images,labels}, or "
    "COCO JSON, or Pascal VOC)",
    "negatives": "accident-free frames (expected {train,val,test}/Non Accident, in the CCTV set's "
    "folder `data`)",
    "trace": "trace (expected a CSV with DL_bitrate,UL_bitrate, a Wireshark export (CSV or "
    "headerless, tab-separated), or a mahimahi .up file)",
}


@dataclass(frozen=True)
class Sources:
    """Where the parts of a source are. Split names are ours: train, val, test."""

    roots: tuple[Path, ...]
    layout: Layout
    accidents: Path
    negatives: Path | None
    trace: Path | None
    other_traces: tuple[Path, ...]

    @property
    def parts(self) -> dict[str, Path]:
        """The parts that are there, by name."""
        found = {"accidents": self.accidents, "negatives": self.negatives, "trace": self.trace}
        return {name: path for name, path in found.items() if path is not None}

    def accident_folder(self, split: str) -> Path:
        """`<split>/` of the accident set."""
        found = [self.accidents / name for name in _ACCIDENT_SPLITS[split]]
        return next((folder for folder in found if folder.is_dir()), found[0])

    def negative_folder(self, split: str) -> Path | None:
        """`<split>/Non Accident` of the CCTV set; None where the source has no such set."""
        return self.negatives and self.negatives / split / "Non Accident"

    def name(self, path: Path) -> str:
        """A path as reports give it: relative to its source; of several sources, with its name."""
        root = next(r for r in self.roots if path.is_relative_to(r))
        name = path.relative_to(root).as_posix()
        return name if len(self.roots) == 1 else f"{root.name}/{name}"

    def path(self, name: str) -> Path:
        """The path that `name` gave this name."""
        if len(self.roots) == 1:
            return self.roots[0] / name
        first, _, rest = name.partition("/")
        return next(r for r in self.roots if r.name == first) / rest


def find_sources(*roots: Path, without: Sequence[str] = ()) -> Sources:
    """The three parts under `roots`, at most three folders deep; those in `without` are left out.

    Of several traces the Zoom capture is taken (the paper's), then the lightest form, then the
    first by name.

    Raises:
        DataError: a part is missing or there twice; lists what was found and what is expected.
    """
    if len({root.name for root in roots}) < len(roots):
        raise DataError("two sources have the same name, rename one", roots[0])
    accidents, negatives, series = [], [], []
    for root in roots:
        if not root.is_dir():
            raise DataError("no such folder: SOURCE must hold the public sets", root)
        for folder in _folders(root, DEPTH):
            if accident_layout(folder):
                accidents.append(folder)
            if _is_cctv_set(folder):
                negatives.append(folder)
            series += [f for f in sorted(folder.iterdir()) if f.is_file() and traces.form(f)]
    series.sort(key=lambda f: ("zoom" not in f.name.lower(), traces.FORMS.index(traces.form(f)), f))
    found = {"accidents": accidents, "negatives": negatives, "trace": series}
    found.update({part: [] for part in without})
    _demand_parts(roots, found, without)
    sources = Sources(
        roots,
        accident_layout(accidents[0]) or "yolo",
        accidents[0],
        found["negatives"][0] if found["negatives"] else None,
        found["trace"][0] if found["trace"] else None,
        tuple(found["trace"][1:]),
    )
    _demand_folders(sources)
    return sources


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those below it; what a recognised set is made of is not searched."""
    yield folder
    if not depth:
        return
    in_set = accident_layout(folder) or _is_cctv_set(folder)
    own = (*_SPLIT_FOLDERS, "images", "annotations", "Annotations", "JPEGImages", "ImageSets")
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and not (in_set and child.name in own):
            yield from _folders(child, depth - 1)


def accident_layout(folder: Path) -> Layout | None:
    """The layout of accident frames with boxes that lies in this very folder, if one does."""
    if (folder / "data.yaml").is_file() and (folder / "train" / "images").is_dir():
        return "yolo"
    if annotation_files(folder):
        return "coco"
    if (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        return "voc"
    train = folder / "train"
    return "voc" if train.is_dir() and next(train.glob("*.xml"), None) else None


def annotation_files(folder: Path) -> dict[Path, str | None]:
    """COCO annotation files of a folder with the split of each; None: one file, no splits."""
    roboflow = {
        folder / name / "_annotations.coco.json": split
        for split, names in _ACCIDENT_SPLITS.items()
        for name in names
    }
    found: dict[Path, str | None] = {f: s for f, s in roboflow.items() if f.is_file()}
    if found:
        return found
    for file in sorted(folder.glob("annotations/*.json")):
        if split := _split_in(file.stem):
            found[file] = split
    single = [folder / name for name in ("annotations.json", "annotations/annotations.json")]
    return found or {file: None for file in single if file.is_file()}


def _split_in(name: str) -> str | None:
    """The split that a file name tells, e.g. `instances_val2017`."""
    return next((s for s in SPLITS if s in name.lower().replace("valid", "val")), None)


def _is_cctv_set(folder: Path) -> bool:
    return any((folder / split / "Non Accident").is_dir() for split in SPLITS)


def _demand_parts(
    roots: Sequence[Path], found: dict[str, list[Path]], without: Sequence[str]
) -> None:
    wanted = [part for part in PARTS if part not in without]
    once = all(len(found[part]) == 1 for part in wanted if part != "trace")
    if once and all(found[part] for part in wanted):
        return
    told = []
    for part in wanted:
        names = [p.relative_to(r) for p in found[part] for r in roots if p.is_relative_to(r)]
        told.append(
            f"{_EXPECTED[part]}: found {', '.join(n.as_posix() for n in names) or 'nothing'}"
        )
    missing = [part for part in wanted if part in OPTIONAL and not found[part]]
    hint = f". To go on without: --without {' '.join(missing)}" if missing else ""
    raise DataError(
        f"needs each part once, at most {DEPTH} folders deep. {'; '.join(told)}{hint}", roots[0]
    )


def _demand_folders(sources: Sources) -> None:
    needed = [sources.negative_folder(split) for split in SPLITS]
    if sources.layout == "yolo":
        needed += [sources.accident_folder(s) / p for s in SPLITS for p in ("images", "labels")]
    for folder in needed:
        if folder is not None and not folder.is_dir():
            raise DataError("no such folder, the set's layout demands it", folder)
