"""Which split a score stands for: the published one, its part without twins, a leak-free one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dat_runtime import manifest
from dat_runtime.errors import DataError, ManifestError

if TYPE_CHECKING:
    from eval.understanding.metrics import Frame, Measures


@dataclass(frozen=True)
class Split:
    """The split of a prepared set.

    Attributes:
        name: "published" or "leak-free".
        twins: how many test frames have a twin in train (the same picture, source or clip).
        with_twin: the ids of these; `None` when the set lists too few pairs to tell them all.
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
    try:
        report = json.loads((data / "report.json").read_text("utf-8"))
        pairs = json.loads((data / "leaks.json").read_text("utf-8"))
        name, leaks = str(report["split"]), report["leaks"]["frames_with_a_twin"]
        found = frozenset(filter(None, (_test_beside_train(pair["frames"]) for pair in pairs)))
        twins = sum(leaks["test in train"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"states no split ({error!r})", data) from None
    return Split(name, twins, found if len(found) == twins else None)


def _test_beside_train(frames: Sequence[str]) -> str | None:
    """The test frame of a pair with a train frame: `["train/a", "test/b"]` gives "b"."""
    parts = {split: image_id for split, _, image_id in (f.partition("/") for f in frames)}
    return parts["test"] if set(parts) == {"test", "train"} else None


def by_split(
    frames: "Sequence[Frame]",
    rows: "Mapping[str, Measures]",
    scores: Mapping[str, Any],
    split: Split,
    beside: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """Each row's scores on all test frames, on those without a twin, and on another split.

    Args:
        beside: tables.json of an evaluation on another split, trained on its own training part.
    """
    import numpy as np

    from eval.score import scores_of
    from eval.understanding.metrics import subset

    clean = None
    if split.with_twin:
        clean = np.array([frame.image_id not in split.with_twin for frame in frames])
    other = {row["row"]: row["ours"] for row in beside["table_1"]} if beside else {}
    found = []
    for name, measures in rows.items():
        found.append({"row": name, "frames": f"{split.name} split", "ours": scores[name]})
        if clean is not None and clean.any():
            part = scores_of(subset(measures, clean))
            found.append({"row": name, "frames": "of these, without a twin", "ours": part})
        if beside and other.get(name):
            title = f"{beside['split']} split, own training"
            found.append({"row": name, "frames": title, "ours": other[name]})
    return found


def notes(split: Split, frames: int) -> list[str]:
    """What a reader must know about the split."""
    told = f"Every score is on the {split.name} split unless it says otherwise: "
    if not split.twins:
        return [f"{told}no test frame has a twin in the training frames."]
    told += (
        f"{split.twins} of {frames} test frames have a twin in the training frames (the same "
        "picture, image source or clip), which flatters the scores."
    )
    if split.with_twin is None:
        told += " The set lists too few pairs to score the others apart."
    return [told]
