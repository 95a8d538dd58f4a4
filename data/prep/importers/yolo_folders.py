"""Where a YOLO set keeps its class names, pictures and labels, as the tools that write it do.

    Roboflow         data.yaml, <split>/images, <split>/labels
    Ultralytics      <any>.yaml, images/<split>, labels/<split>, or lists of pictures (also CVAT's)
    FiftyOne         dataset.yaml, images/<split>, labels/<split>; or obj.names, data/
    Label Studio     classes.txt, notes.json, images/, labels/, without splits
    Darknet, CVAT    obj.names, obj_<split>_data/ with pictures and labels
    LabelImg         classes.txt beside pictures and labels

Paths in a data.yaml are looked up below the set's folder only, wherever they lead.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from data.prep.importers.listing import by_folded_name, entries, exists_as_file, is_leftover
from data.prep.importers.plain_yaml import plain_yaml
from data.prep.importers.source_frame import SUFFIXES
from data.prep.importers.split_names import split_folders, split_named, two_of_a_split

_DATA_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = ("classes.txt", "obj.names", "notes.json", "_darknet.labels")
"""Files of class names where there is no data.yaml, the likeliest first."""
NO_LABELS = frozenset(
    {*_NAMES, "predefined_classes.txt", "images.txt", "train.txt", "val.txt", "valid.txt"}
    | {"test.txt", "obj.data"}
)
"""Files that lie among label files and are none, unless a picture has their name."""
_DARKNET = re.compile(r"obj_([a-z]+)_data$", re.IGNORECASE)
_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""The keys of a data.yaml that name the pictures of a split."""
_MAX_LIST_BYTES = 64 * 1024 * 1024


class Part(NamedTuple):
    """A folder of pictures with the folder of their labels, which may be the same.

    Attributes:
        split: None where the set has no splits.
        listed: the pictures that count, where a list names them; None: all in the folder.
        deep: whether folders below count too.
    """

    split: str | None
    images: Path
    labels: Path
    listed: tuple[Path, ...] | None = None
    deep: bool = True


def names_file(root: Path) -> Path | None:
    """The file of a folder that names the classes of its YOLO set, if there is one.

    Raises:
        DataError: two data.yaml, so which one counts cannot be known.
    """
    named = by_folded_name(root)
    found = [named[name] for name in _DATA_YAML if name in named and named[name].is_file()]
    if not found:
        found = [path for path in named.values() if _is_other_data_yaml(path)]
    if len(found) > 1:
        raise DataError(f"beside {found[0].name}: which one counts cannot be known", found[1])
    if found:
        return found[0]
    for place in (root, root / "labels", root / "train", root / "train" / "labels"):
        for name in _NAMES:
            if (place / name).is_file():
                return place / name
    return None


def _is_other_data_yaml(path: Path) -> bool:
    if path.suffix.lower() not in (".yaml", ".yml") or is_leftover(path) or not path.is_file():
        return False
    try:
        content = plain_yaml(path)
    except DataError:
        return False
    return isinstance(content, dict) and "names" in content and "train" in content


def is_yolo(root: Path) -> bool:
    """Whether a folder holds a YOLO set."""
    names = names_file(root)
    return names is not None and bool(parts(root, names))


def parts(root: Path, names: Path) -> list[Part]:
    """The parts of a set whose classes the file `names` names.

    Raises:
        DataError: two folders are of one split; or data.yaml says a thing that is no path.
    """
    folders = _folders_by_split(root)
    content = plain_yaml(names) if names.suffix.lower() in (".yaml", ".yml") else None
    found: list[Part] = []
    for split in SPLITS:
        stated = list(_stated(content, split, root, names)) if isinstance(content, dict) else []
        if not stated and split in folders:
            stated = [folders[split]]
        for path in stated:
            found += _parts_at(path, split, root)
    return found or _without_splits(root)


def _folders_by_split(root: Path) -> dict[str, Path]:
    """Split -> its folder of pictures, by the names of folders."""
    found: dict[str, Path] = {}
    for split, folder in split_folders(root).items():
        inner = by_folded_name(folder).get("images")
        if inner is not None and inner.is_dir():
            found[split] = inner
        elif _has_pictures(folder):
            found[split] = folder
    images = by_folded_name(root).get("images")
    below = split_folders(images) if images is not None and images.is_dir() else {}
    for path in entries(root):
        match = _DARKNET.match(path.name)
        split = split_named(match.group(1)) if match and path.is_dir() else None
        if split:
            below.setdefault(split, path)
    for split, folder in below.items():
        if split in found:
            raise two_of_a_split(split, found[split], folder)
        found[split] = folder
    return found


def _has_pictures(folder: Path) -> bool:
    return any(
        path.suffix.lower() in SUFFIXES and not is_leftover(path) for path in entries(folder)
    )


def _stated(content: dict[Any, Any], split: str, root: Path, file: Path) -> Iterator[Path]:
    """The folders and lists that data.yaml names for a split and that are there."""
    stated = next((content[key] for key in _KEYS[split] if content.get(key)), [])
    for entry in stated if isinstance(stated, list) else [stated]:
        if not isinstance(entry, str):
            raise DataError(f"{split}: {entry!r:.80}, expected a path or a list of paths", file)
        base = content.get("path")
        path = _below(root, f"{base}/{entry}" if isinstance(base, str) else entry)
        if path is not None and (path.is_dir() or path.suffix.lower() == ".txt"):
            yield path


def _below(root: Path, text: str) -> Path | None:
    """What a path means below `root`: its longest end that is there.

    Exports state paths of the machine that made them (`/content/set/train/images`) or of a folder
    that is not shipped (`../train/images`). The name of a split is never dropped.
    """
    names = [n for n in PurePosixPath(text.replace("\\", "/")).parts if n not in ("/", "..", ".")]
    for start, name in enumerate(names):
        path = root.joinpath(*names[start:])
        if exists_as_file(path) or path.is_dir():
            return path
        if split_named(name):
            break
    return None


def _parts_at(path: Path, split: str, root: Path) -> Iterator[Part]:
    """The parts that a folder, or a list of pictures, gives."""
    if path.is_dir():
        inner = path / "images"
        images = inner if inner.is_dir() and not _has_pictures(path) else path
        yield Part(split, images, labels_of(images, root))
        return
    listed: dict[Path, list[Path]] = {}
    lost = []
    for line in files.read_text(path, DataError, most_bytes=_MAX_LIST_BYTES).splitlines():
        picture = _below(root, line.strip()) if line.strip() else None
        if picture is not None:
            listed.setdefault(picture.parent, []).append(picture)
        elif line.strip():
            lost.append(PurePosixPath(line.strip().replace("\\", "/")).name)
    for folder, pictures in listed.items():
        pictures += [folder / name for name in lost]  # named as missing where the others are
        lost = []
        yield Part(split, folder, labels_of(folder, root), tuple(pictures), deep=False)


def labels_of(images: Path, root: Path) -> Path:
    """The folder of the labels of a folder of pictures; the likeliest if there is none."""
    names = list(images.relative_to(root).parts)
    for place in reversed(range(len(names))):
        if names[place].casefold() == "images":
            parent = root.joinpath(*names[:place])
            labels = by_folded_name(parent).get("labels", parent / "labels")
            folder = labels.joinpath(*names[place + 1 :])
            if folder.is_dir() or not _has_labels(images):
                return folder
    for folder in (root.joinpath("labels", *names), images.parent / "labels"):
        if images != root and folder.is_dir():
            return folder
    return images


def _has_labels(folder: Path) -> bool:
    return any(p.suffix.lower() == ".txt" and p.name not in NO_LABELS for p in entries(folder))


def _without_splits(root: Path) -> list[Part]:
    """The one part of a set without splits; none if there is no set."""
    named = by_folded_name(root)
    images = named.get("images")
    if images is not None and images.is_dir() and "labels" in named:
        return [Part(None, images, labels_of(images, root))]
    data = named.get("data")
    places: Sequence[Path] = [data, root] if data is not None and data.is_dir() else [root]
    for folder in places:
        if _has_pictures(folder) and _has_labels(folder):
            return [Part(None, folder, folder, deep=False)]
    return []
