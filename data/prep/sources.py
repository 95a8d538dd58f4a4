"""Finding the public sets in a folder by their layout, and reading the Roboflow data.yaml.

Nothing of a source is executed, and nothing in it is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.errors import DataError
from dat_runtime.types import SEVERITIES, Severity
from data.prep import traces
from data.prep.faults import Fault

SPLITS = ("train", "val", "test")
DEPTH = 3

_ACCIDENT_SPLITS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
_EXPECTED = {
    "accident frames": "data.yaml beside train|valid|test/{images,labels}",
    "accident-free frames": "{train,val,test}/Non Accident, in the CCTV set's folder `data`",
    "trace": "a CSV with DL_bitrate,UL_bitrate, a Wireshark export (CSV or headerless, "
    "tab-separated), or a mahimahi .up file",
}
_MAX_YAML_BYTES = 64 * 1024
_MAX_YAML_DEPTH = 16


@dataclass(frozen=True)
class Sources:
    """Where the parts of a source are. Split names are ours: train, val, test."""

    root: Path
    accidents: Path
    negatives: Path
    trace: Path
    other_traces: tuple[Path, ...]

    def accident_folder(self, split: str) -> Path:
        """`<split>/` of the accident set, holding images/ and labels/."""
        found = [self.accidents / name for name in _ACCIDENT_SPLITS[split]]
        return next((folder for folder in found if folder.is_dir()), found[0])

    def negative_folder(self, split: str) -> Path:
        return self.negatives / split / "Non Accident"

    def name(self, path: Path) -> str:
        """A path as reports give it: relative to the source."""
        return path.relative_to(self.root).as_posix()


def find_sources(root: Path) -> Sources:
    """The three parts under `root`, at most three folders deep.

    Of several traces the Zoom capture is taken (the paper's), then the lightest form, then the
    first by name.

    Raises:
        DataError: a part is missing or there twice; lists what was found and what is expected.
    """
    if not root.is_dir():
        raise DataError("no such folder: SOURCE must hold the public sets", root)
    accidents, negatives, series = [], [], []
    for folder in _folders(root, DEPTH):
        if _is_accident_set(folder):
            accidents.append(folder)
        if _is_cctv_set(folder):
            negatives.append(folder)
        series += [f for f in sorted(folder.iterdir()) if f.is_file() and traces.form(f)]
    series.sort(key=lambda f: ("zoom" not in f.name.lower(), traces.FORMS.index(traces.form(f)), f))
    found = dict(zip(_EXPECTED, (accidents, negatives, series), strict=True))
    if not all(found.values()) or len(accidents) > 1 or len(negatives) > 1:
        raise DataError(_found_and_expected(root, found), root)
    sources = Sources(root, accidents[0], negatives[0], series[0], tuple(series[1:]))
    _demand_folders(sources)
    return sources


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those below it; the splits of a recognised set are not searched."""
    yield folder
    if not depth:
        return
    in_set = _is_accident_set(folder) or _is_cctv_set(folder)
    for child in sorted(folder.iterdir()):
        is_split = in_set and child.name in ("train", "valid", "val", "test")
        if child.is_dir() and not child.name.startswith(".") and not is_split:
            yield from _folders(child, depth - 1)


def _is_accident_set(folder: Path) -> bool:
    return (folder / "data.yaml").is_file() and (folder / "train" / "images").is_dir()


def _is_cctv_set(folder: Path) -> bool:
    return any((folder / split / "Non Accident").is_dir() for split in SPLITS)


def _found_and_expected(root: Path, found: dict[str, list[Path]]) -> str:
    parts = []
    for part, paths in found.items():
        names = ", ".join(p.relative_to(root).as_posix() for p in paths) or "nothing"
        parts.append(f"{part} (expected {_EXPECTED[part]}): found {names}")
    return f"needs each part once, at most {DEPTH} folders deep. " + "; ".join(parts)


def _demand_folders(sources: Sources) -> None:
    accident = [sources.accident_folder(s) / part for s in SPLITS for part in ("images", "labels")]
    for folder in [*accident, *map(sources.negative_folder, SPLITS)]:
        if not folder.is_dir():
            raise DataError("no such folder, the set's layout demands it", folder)


def read_data_yaml(path: Path, name: str) -> tuple[list[Severity], list[Fault]]:
    """Severity of each class id of a Roboflow data.yaml, and its faults.

    Only `names` and `nc` are used: paths in it are replaced by the layout, `download` is ignored.

    Raises:
        DataError: it is no plain YAML mapping, or a class is neither moderate nor severe.
    """
    content = _plain_yaml(path)
    if not isinstance(content, dict) or "names" not in content:
        raise DataError("expected a mapping with `names`", path)
    names = content["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != list(range(len(names))):
            raise DataError(f"class ids of `names` must be 0, 1, ..., got {list(names)}", path)
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"`names` must be a list or a mapping, got {names!r:.200}", path)
    mapped = [str(n).strip().casefold() for n in names]
    if set(mapped) != set(SEVERITIES) or len(mapped) != len(SEVERITIES):
        raise DataError(
            f"classes must be {' and '.join(SEVERITIES)}, this set names {names!r:.200}", path
        )
    if content.get("nc", len(mapped)) != len(mapped):
        raise DataError(f"nc is {content['nc']!r:.80} but `names` has {len(mapped)}", path)
    faults = []
    if "download" in content:
        detail = f"download: {content['download']!r:.80}"
        faults.append(Fault("download-key", name, None, detail))
    return [SEVERITIES[SEVERITIES.index(n)] for n in mapped], faults


def _plain_yaml(path: Path) -> Any:
    """YAML without aliases (they can multiply), tags, or deep nesting."""
    data = path.read_bytes()
    if len(data) > _MAX_YAML_BYTES:
        raise DataError(f"{len(data)} bytes, a data.yaml has at most {_MAX_YAML_BYTES}", path)
    try:
        depth = 0
        for event in yaml.parse(data, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_YAML_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise DataError("aliases and deep nesting are refused", path, line)
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        raise DataError(f"not plain YAML: {problem}", path, line) from None
