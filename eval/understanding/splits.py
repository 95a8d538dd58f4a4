"""Which split a score is on: the published one, its part without twins, or a leak-free one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime import manifest
from dat_runtime.errors import DataError, ManifestError
from dat_runtime.files import read_json
from dat_runtime.truth import Frame
from eval.understanding.metrics import Measures, subset
from eval.understanding.scores import scores_of


@dataclass(frozen=True)
class Split:
    """The split of a prepared set.

    Attributes:
        name: "published" or "leak-free".
        twins: how many test frames have a twin in train (the same picture, source or clip).
        with_twin: the ids of these; `None` when the set lists too few pairs to name them all.
    """

    name: str
    twins: int
    with_twin: frozenset[str] | None


def read_split(data: Path, instructions: Path) -> Split:
    """The split of the set that the instructions were made from.

    Raises:
        ManifestError: they were made from another set.
        DataError: report.json or leaks.json are not what `data.prep.build` writes.
    """
    manifest.verify(data, "data")
    if (instructions / manifest.NAME).is_file():
        made_from = manifest.read(instructions, "instructions").inputs.get("data")
        if made_from != manifest.digest(data):
            raise ManifestError(f"{instructions} was not made from {data}: name the right --data")
    report = read_json(data / "report.json")
    pairs = read_json(data / "leaks.json")
    try:
        name = str(report["split"])
        twins = sum(report["leaks"]["frames_with_a_twin"]["test in train"].values())
        with_twin = frozenset(_test_frames_beside_train(pairs))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"states no split ({error!r})", data) from None
    # leaks.json lists only so many pairs: then the frames with a twin are not all known.
    return Split(name, twins, with_twin if len(with_twin) == twins else None)


def _test_frames_beside_train(pairs: Sequence[Any]) -> Iterator[str]:
    """The test frame of each pair with a train frame: `["train/a", "test/b"]` gives "b"."""
    for pair in pairs:
        ids = {}
        for path in pair["frames"]:
            split, _, image_id = path.partition("/")
            ids[split] = image_id
        if ids.keys() == {"test", "train"}:
            yield ids["test"]


def by_split(
    frames: Sequence[Frame],
    rows: Mapping[str, Measures],
    scores: Mapping[str, Any],
    split: Split,
    beside: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """Each row's scores on all test frames, on those without a twin, and on another split.

    Args:
        beside: tables.json of an evaluation on another split, trained on its own training part.
    """
    without_twin = np.zeros(len(frames), dtype=bool)
    if split.with_twin:
        without_twin = np.array([frame.image_id not in split.with_twin for frame in frames])
    elsewhere: dict[str, Any] = {}
    title = ""
    if beside:
        elsewhere = {row["row"]: row["ours"] for row in beside["table_1"]}
        title = f"{beside['split']} split, own training"
    lines = []
    for name, measures in rows.items():
        lines.append({"row": name, "frames": f"{split.name} split", "ours": scores[name]})
        if without_twin.any():
            part = scores_of(subset(measures, without_twin))
            lines.append({"row": name, "frames": "of these, without a twin", "ours": part})
        if elsewhere.get(name):
            lines.append({"row": name, "frames": title, "ours": elsewhere[name]})
    return lines


def notes(split: Split, frames: int) -> list[str]:
    """The note about the split that goes with the tables."""
    note = f"Every score is on the {split.name} split unless it says otherwise: "
    if not split.twins:
        return [f"{note}no test frame has a twin in the training frames."]
    note += (
        f"{split.twins} of {frames} test frames have a twin in the training frames (the same "
        "picture, image source or clip), which flatters the scores."
    )
    if split.with_twin is None:
        note += " The set lists too few pairs to score the others apart."
    return [note]
