"""Finding the parts of a source by their layout. Nothing in it is executed or changed.

Accident frames with boxes: `yolo_folders`, `coco_files` and `voc_folders` state the layouts.
Accident-free frames: `cctv_folders`. Traces: `traces`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dat_runtime.errors import DataError
from data.prep.importers import traces
from data.prep.importers.cctv_folders import negative_folders
from data.prep.importers.coco_files import annotation_files
from data.prep.importers.faults import Fault
from data.prep.importers.listing import Found, entries, is_leftover, readable
from data.prep.importers.split_names import split_named
from data.prep.importers.voc_folders import xml_folders
from data.prep.importers.yolo_folders import is_yolo

PARTS = ("accidents", "negatives", "trace")
OPTIONAL = PARTS[1:]
"""Parts that `--without` may name."""
DEPTH = 3
"""Levels of folders below a root that are searched for parts."""

Layout = Literal["yolo", "coco", "voc"]

_SET_FOLDERS = frozenset(
    {"images", "labels", "annotations", "jpegimages", "imagesets", "data", "leaks", "metadata"}
)
"""The folders that a recognised set consists of, and its splits; parts are not searched in them."""
_EXPECTED = {
    "accidents": "accident frames (expected YOLO: data.yaml or classes.txt beside images and "
    "labels, or COCO JSON, or Pascal VOC; of CVAT XML, Label Studio JSON and LabelMe export COCO)",
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

    def name(self, path: Path) -> str:
        """A path for reports, relative to its source; of several sources, preceded by its name."""
        root = next(r for r in self.roots if path.is_relative_to(r))
        name = readable(path.relative_to(root))
        return name if len(self.roots) == 1 else f"{readable(Path(root.name))}/{name}"

    def path(self, name: str) -> Path:
        """The path that has this name, for messages: the inverse of `name`."""
        if len(self.roots) == 1:
            return self.roots[0] / name
        root_name, _, rest = name.partition("/")
        return next(r for r in self.roots if readable(Path(r.name)) == root_name) / rest


def faults_of_files(found: Found, sources: Sources) -> list[Fault]:
    """A fault for each file of a folder that is no picture, or no label."""
    faults = [Fault("stray-file", sources.name(path), None, why) for path, why in found.stray]
    for path, first in found.doubles:
        # A label file cannot state which of two images with its name it describes.
        faults.append(Fault("same-name", sources.name(path), None, f"beside {first.name!r}"))
    for path in found.leftovers:
        faults.append(Fault("system-file", sources.name(path), None, "no part of the set"))
    return faults


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
        if root.is_file():
            raise DataError("is neither a folder nor a .zip, .tar or .tar.gz file", root)
        if not root.is_dir():
            raise DataError("no such folder: SOURCE must hold the public sets", root)
        for folder in _folders(root, DEPTH):
            if accident_layout(folder):
                candidates["accidents"].append(folder)
            if negative_folders(folder):
                candidates["negatives"].append(folder)
            for file in entries(folder):
                if not is_leftover(file) and file.is_file() and traces.form(file):
                    candidates["trace"].append(file)
    candidates["trace"].sort(key=_trace_order)
    for part in without:
        candidates[part] = []
    _demand_parts(roots, candidates, without)
    accidents = candidates["accidents"][0]
    return Sources(
        roots=roots,
        layout=accident_layout(accidents) or "yolo",  # never None: it was found by its layout
        accidents=accidents,
        negatives=next(iter(candidates["negatives"]), None),
        trace=next(iter(candidates["trace"]), None),
        other_traces=tuple(candidates["trace"][1:]),
    )


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
    in_set = accident_layout(folder) or negative_folders(folder)
    for child in entries(folder):
        if is_leftover(child) or not child.is_dir():
            continue
        if in_set and _belongs_to_set(child):
            continue
        yield from _folders(child, depth - 1)


def _belongs_to_set(folder: Path) -> bool:
    """Whether a folder in a recognised set is one of those that the set consists of."""
    if split_named(folder.name):
        return True
    return folder.name.casefold() in _SET_FOLDERS and not negative_folders(folder)


def accident_layout(folder: Path) -> Layout | None:
    """The layout of the accident frames with boxes that are directly in this folder, if any."""
    if is_yolo(folder):
        return "yolo"
    if annotation_files(folder):
        return "coco"
    if xml_folders(folder):
        return "voc"
    return None


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
    return readable(path.relative_to(root))
