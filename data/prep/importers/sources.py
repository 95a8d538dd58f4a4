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
"""Parts that `--without` may name."""
DEPTH = 3
"""Levels of folders below a root that are searched for parts."""

Layout = Literal["yolo", "coco", "voc"]

_ACCIDENT_SPLITS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
"""Folder names of a split; Roboflow writes `valid`."""
_SET_FOLDERS = frozenset(
    {"train", "valid", "val", "test"}
    | {"images", "annotations", "Annotations", "JPEGImages", "ImageSets"}
)
"""The folders that a recognised set consists of; parts are not searched in them."""
_EXPECTED = {
    "accidents": "accident frames (expected data.yaml beside train|valid|test/{images,labels}, or "
    "COCO JSON, or Pascal VOC)",
    "negatives": "accident-free frames (expected {train,val,test}/Non Accident, in the CCTV set's "
    "folder `data`)",
    "trace": "trace (expected a CSV with DL_bitrate,UL_bitrate, a Wireshark export (CSV or "
    "headerless, tab-separated), a pcap or pcapng, or a mahimahi .up file)",
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
        paths = {"accidents": self.accidents, "negatives": self.negatives, "trace": self.trace}
        return {name: path for name, path in paths.items() if path is not None}

    def accident_folder(self, split: str) -> Path:
        """`<split>/` of the accident set, under the first of its usual names if none is there."""
        folders = [self.accidents / name for name in _ACCIDENT_SPLITS[split]]
        for folder in folders:
            if folder.is_dir():
                return folder
        return folders[0]

    def negative_folder(self, split: str) -> Path | None:
        """`<split>/Non Accident` of the CCTV set; None where the source has no such set."""
        if self.negatives is None:
            return None
        return self.negatives / split / "Non Accident"

    def name(self, path: Path) -> str:
        """A path for reports, relative to its source; of several sources, preceded by its name."""
        root = next(r for r in self.roots if path.is_relative_to(r))
        name = path.relative_to(root).as_posix()
        return name if len(self.roots) == 1 else f"{root.name}/{name}"

    def path(self, name: str) -> Path:
        """The path that has this name, the inverse of `name`."""
        if len(self.roots) == 1:
            return self.roots[0] / name
        root_name, _, rest = name.partition("/")
        return next(r for r in self.roots if r.name == root_name) / rest


def find_sources(*roots: Path, without: Sequence[str] = ()) -> Sources:
    """The parts under `roots`, at most three folders deep; parts in `without` are left out.

    Of several traces it takes a Zoom capture, as the paper does; among these the first
    form of `traces.FORMS`; among these the first by name.

    Raises:
        DataError: a part is missing or is there twice; lists what was found and expected.
    """
    if len({root.name for root in roots}) < len(roots):
        raise DataError("two sources have the same name, rename one", roots[0])
    candidates: dict[str, list[Path]] = {part: [] for part in PARTS}
    for root in roots:
        if not root.is_dir():
            raise DataError("no such folder: SOURCE must hold the public sets", root)
        for folder in _folders(root, DEPTH):
            if accident_layout(folder):
                candidates["accidents"].append(folder)
            if _is_cctv_set(folder):
                candidates["negatives"].append(folder)
            for file in sorted(folder.iterdir()):
                if file.is_file() and traces.form(file):
                    candidates["trace"].append(file)
    candidates["trace"].sort(key=_trace_order)
    for part in without:
        candidates[part] = []
    _demand_parts(roots, candidates, without)
    accidents = candidates["accidents"][0]
    sources = Sources(
        roots=roots,
        layout=accident_layout(accidents) or "yolo",  # never None: it was found by its layout
        accidents=accidents,
        negatives=next(iter(candidates["negatives"]), None),
        trace=next(iter(candidates["trace"]), None),
        other_traces=tuple(candidates["trace"][1:]),
    )
    _demand_folders(sources)
    return sources


def _trace_order(file: Path) -> tuple[bool, int, Path]:
    """The sort key of traces: the one to use comes first."""
    form = traces.form(file)
    place = traces.FORMS.index(form) if form else len(traces.FORMS)
    return "zoom" not in file.name.lower(), place, file


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those below it, without the folders that a recognised set consists of."""
    yield folder
    if not depth:
        return
    in_set = accident_layout(folder) or _is_cctv_set(folder)
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        if in_set and child.name in _SET_FOLDERS:
            continue
        yield from _folders(child, depth - 1)


def accident_layout(folder: Path) -> Layout | None:
    """The layout of the accident frames with boxes that are directly in this folder, if any."""
    if (folder / "data.yaml").is_file() and (folder / "train" / "images").is_dir():
        return "yolo"
    if annotation_files(folder):
        return "coco"
    if (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        return "voc"
    train = folder / "train"
    if train.is_dir() and any(train.glob("*.xml")):
        return "voc"
    return None


def annotation_files(folder: Path) -> dict[Path, str | None]:
    """COCO annotation files of a folder, with the split of each; None if there are no splits."""
    files: dict[Path, str | None] = {}
    for split, names in _ACCIDENT_SPLITS.items():
        for name in names:
            file = folder / name / "_annotations.coco.json"
            if file.is_file():
                files[file] = split
    if files:
        return files
    for file in sorted(folder.glob("annotations/*.json")):
        stated = _split_in(file.stem)
        if stated:
            files[file] = stated
    if files:
        return files
    for place in ("annotations.json", "annotations/annotations.json"):
        if (folder / place).is_file():
            files[folder / place] = None
    return files


def _split_in(name: str) -> str | None:
    """The split that a file name states, e.g. `instances_val2017`."""
    plain = name.lower().replace("valid", "val")
    for split in SPLITS:
        if split in plain:
            return split
    return None


def _is_cctv_set(folder: Path) -> bool:
    return any((folder / split / "Non Accident").is_dir() for split in SPLITS)


def _demand_parts(
    roots: Sequence[Path], candidates: dict[str, list[Path]], without: Sequence[str]
) -> None:
    """Refuse a source unless each wanted part is there once; there may be several traces."""
    wanted = [part for part in PARTS if part not in without]
    good = True
    for part in wanted:
        count = len(candidates[part])
        good = good and (count == 1 or (count > 1 and part == "trace"))
    if good:
        return
    problems = []
    for part in wanted:
        names = ", ".join(_name_below(roots, path) for path in candidates[part])
        problems.append(f"{_EXPECTED[part]}: found {names or 'nothing'}")
    missing = [part for part in wanted if part in OPTIONAL and not candidates[part]]
    hint = f". To build without: --without {' '.join(missing)}" if missing else ""
    raise DataError(
        f"needs each part once, at most {DEPTH} folders deep. {'; '.join(problems)}{hint}", roots[0]
    )


def _name_below(roots: Sequence[Path], path: Path) -> str:
    root = next(r for r in roots if path.is_relative_to(r))
    return path.relative_to(root).as_posix()


def _demand_folders(sources: Sources) -> None:
    """Refuse a source that lacks a folder of a split which its layout needs."""
    folders = [sources.negative_folder(split) for split in SPLITS]
    if sources.layout == "yolo":
        for split in SPLITS:
            accidents = sources.accident_folder(split)
            folders += [accidents / "images", accidents / "labels"]
    for folder in folders:
        if folder is not None and not folder.is_dir():
            raise DataError("no such folder, but the set's layout needs it", folder)
