"""Where a COCO set keeps its annotation files and pictures, as the tools that export it write it.

Roboflow         <split>/_annotations.coco.json beside the pictures
COCO, CVAT       annotations/instances_<split or subset>.json, images/<subset>/ or images/
Label Studio     result.json, images/
FiftyOne         labels.json, data/, also one such pair in each split
by hand          annotations.json or <split>.json, images/
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from dat_runtime.truth import SPLITS
from data.prep.importers.listing import by_folded_name, entries, exists_as_file, is_leftover
from data.prep.importers.split_names import split_folders, split_in, split_named, two_of_a_split

_BESIDE = (
    "_annotations.coco.json",
    "annotations.json",
    "labels.json",
    "result.json",
    "instances_default.json",
)
"""Names of an annotation file in the folder of a split."""
_WORDS = frozenset({"annotations", "annotation", "coco", "labels", "result", "instances"})
"""Words that the name of an annotation file consists of, beside splits and `default`."""
_OF_OTHER_TASKS = ("captions", "person", "keypoints", "panoptic", "stuff", "image")
"""What names of COCO's further files for the same pictures begin with."""
_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_PEEK_BYTES = 64 * 1024


def annotation_files(root: Path) -> dict[Path, str | None]:
    """The annotation files of a set, with the split of each; None where the set has no splits.

    Raises:
        DataError: two folders are of one split.
    """
    files: dict[Path, str | None] = {}
    for split, folder in split_folders(root, _beside).items():
        file = _beside(folder)
        if file is not None:
            files[file] = split
    if files:
        return {file: split for split in SPLITS for file, s in files.items() if s == split}
    return _with_splits(_of_instances(root)) or _with_splits(_at(root))


def unused_files(root: Path) -> list[Path]:
    """Further annotation files of the set, which would give its pictures once more."""
    used = annotation_files(root)
    candidates = [*_in_annotations(root), *_at(root)]
    return [file for file in candidates if file not in used]


def _beside(folder: Path) -> Path | None:
    """The annotation file in the folder of a split."""
    paths = (folder / name for name in _BESIDE)
    return next((path for path in paths if path.is_file() and _looks_like_coco(path)), None)


def _in_annotations(root: Path) -> list[Path]:
    """The JSON files in `annotations/`."""
    folder = by_folded_name(root).get("annotations")
    if folder is None or not folder.is_dir():
        return []
    return [p for p in entries(folder) if p.suffix.lower() == ".json" and _looks_like_coco(p)]


def _of_instances(root: Path) -> list[Path]:
    """Of the files in `annotations/`, those of boxes: COCO has others of the same pictures."""
    found = _in_annotations(root)
    instances = [path for path in found if path.stem.casefold().startswith("instances")]
    boxes = [p for p in found if not p.stem.casefold().startswith(_OF_OTHER_TASKS)]
    return instances or boxes or found


def _at(root: Path) -> list[Path]:
    """The files directly in the set's folder that are annotation files by name and content."""
    return [
        path
        for path in entries(root)
        if path.suffix.lower() == ".json" and _is_named_so(path) and _looks_like_coco(path)
    ]


def _is_named_so(path: Path) -> bool:
    words = set(re.findall(r"[a-z]+", path.stem.casefold())) - {"default"}
    named = {word for word in words if word in _WORDS or split_named(word)}
    return words == named and not is_leftover(path)


def _looks_like_coco(path: Path) -> bool:
    """Whether a file begins as COCO JSON: one of its tables, or a text that is not plain UTF-8."""
    if is_leftover(path) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(_PEEK_BYTES)
    except OSError:
        return True  # as are those that cannot be read
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        start = start.replace(b"\0", b"")
    if path.name == _BESIDE[0] or path.stem.startswith("instances"):
        return True  # broken ones are to be named by an error
    return bool(_KEYS.search(start))


def _with_splits(files: Sequence[Path]) -> dict[Path, str | None]:
    """The split that each file's name states; where some state one, the others are not used."""
    stated = {file: split_in(file.stem) for file in files}
    if any(stated.values()):
        return {file: split for file, split in stated.items() if split}
    return stated


class Pictures:
    """The folders in which the pictures of an annotation file may lie, the likeliest first.

    Raises:
        DataError: two folders are of the file's split.
    """

    def __init__(self, file: Path, split: str | None, root: Path):
        self._folders = list(dict.fromkeys(_picture_folders(file, split, root)))

    def locate(self, name: str) -> tuple[Path, Path] | None:
        """A picture and the folder that it was looked up in; None if it is nowhere.

        Names may be paths of the machine that exported them, so beginnings are dropped; what they
        lead to is always below the folders.
        """
        for text in dict.fromkeys((name, unquote(name))):
            parts = PurePosixPath(text.replace("\\", "/")).parts
            names = [part for part in parts if part not in ("/", "..", ".")]
            for start in range(len(names)):
                for folder in self._folders:
                    path = folder.joinpath(*names[start:])
                    if exists_as_file(path):
                        return path, folder
        return None


def _picture_folders(file: Path, split: str | None, root: Path) -> Iterator[Path]:
    named = by_folded_name(root)
    top = [named[name] for name in ("images", "data", "jpegimages") if name in named]
    tops = [folder for folder in top if folder.is_dir()]
    if file.parent != root and file.parent.name.casefold() != "annotations":
        yield from (file.parent / name for name in ("data", "images", ".") if _is_in(file, name))
    subset = re.sub(r"^(person_keypoints|instances|keypoints|annotations)_", "", file.stem)
    for folder in (*tops, root):
        if (folder / subset).is_dir():
            yield folder / subset
        if split:
            yield from _split_folder(folder, split)
    yield from (*tops, root)


def _is_in(file: Path, name: str) -> bool:
    return (file.parent / name).is_dir()


def _split_folder(folder: Path, split: str) -> Iterator[Path]:
    """The folder of a split's pictures, such as `val` or `val2017`, after `images/` in it."""
    found = [p for p in entries(folder) if p.is_dir() and _split_of_folder(p) == split]
    plain = [path for path in found if split_named(path.name)]
    if len(plain) > 1:
        raise two_of_a_split(split, plain[0], plain[1])
    for path in found:
        yield from (p for p in (path / "images", path / "data", path) if p.is_dir())


def _split_of_folder(path: Path) -> str | None:
    return split_named(path.name.rstrip("0123456789"))
