"""Folds of the training frames: a gate that left a fold out sees its frames as it sees new ones.

`data.prep.instruct --detections out-of-fold` lets each training frame be seen by the gate that was
not trained on it, so that the MLLM is tuned on the mistakes which the test will show.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import read_json, write_json
from dat_runtime.truth import GROUPS, HELD_OUT

MAX_FOLDS = 100
"""Each fold is a training of the gate."""


@dataclass(frozen=True)
class Fold:
    """The fold `number`, counted from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Fold":
        """From `1/3`, as on the command line.

        Raises:
            ConfigError: the text is not such a pair.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and len(text) < 10):
            raise ConfigError(f"--fold is {text!r:.20}, expected a number of a count, such as 1/3")
        if not (2 <= int(count) <= MAX_FOLDS and 1 <= int(number) <= int(count)):
            raise ConfigError(f"--fold is {text}, expected 1/N to N/N with N from 2 to {MAX_FOLDS}")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def leave_out(fold: Fold, data: Path, boxes: Mapping[str, int], folder: Path) -> dict[str, int]:
    """The training frames (id -> boxes) without the fold's, whose ids go to held_out.json.

    Raises:
        DataError: `groups.json` of the data is missing or is not about these frames.
        ConfigError: fewer groups than folds.
    """
    fold_of = assign(read_groups(data, boxes), boxes, fold.count)
    held_out = sorted(name for name in boxes if fold_of[name] == fold.number)
    content = {"fold": fold.number, "of": fold.count, "image_ids": held_out}
    write_json(folder / HELD_OUT, content)
    print(
        f"[gate] fold {fold}: {len(held_out)} of {len(boxes)} training frames left out", flush=True
    )
    return {name: count for name, count in boxes.items() if fold_of[name] != fold.number}


def read_groups(data: Path, frames: Iterable[str]) -> dict[str, str]:
    """Each training frame's group of frames that belong together, as `data.prep.build` found them.

    Raises:
        DataError: see `leave_out`.
    """
    path = data / GROUPS
    content = read_json(path, missing="make the data again with this data.prep.build")
    try:
        groups = {str(name): str(group) for name, group in content["train"].items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"no groups of frames ({error!r:.60})", path) from None
    if strangers := groups.keys() ^ set(frames):
        raise DataError(f"not about the training frames, such as {min(strangers)!r}", path)
    return groups


def assign(groups: Mapping[str, str], boxes: Mapping[str, int], count: int) -> dict[str, int]:
    """The fold (1 to `count`) of each frame, the same for all of a group.

    A frame is of one of two kinds: with boxes or without. From the largest group to the smallest,
    each goes to the fold that has the fewest frames of the kind that is most frequent in the group;
    of those, to the one with the fewest frames.

    Raises:
        ConfigError: fewer groups than folds.
    """
    kinds_in_group: dict[str, Counter[bool]] = defaultdict(Counter)
    for name, group in groups.items():
        has_boxes = boxes[name] > 0
        kinds_in_group[group][has_boxes] += 1
    if len(kinds_in_group) < count:
        raise ConfigError(
            f"the training frames are {len(kinds_in_group)} groups of frames that belong together, "
            f"too few for {count} folds: take fewer"
        )

    def by_size(group: str) -> tuple[int, str]:
        # Between groups of one size a digest of the name decides, so that neighbours in a listing,
        # which often show one place, are spread.
        return -kinds_in_group[group].total(), hashlib.sha256(group.encode()).hexdigest()

    # The large groups first: the small ones can still even out what those left uneven.
    kinds_in_fold: dict[int, Counter[bool]] = {fold: Counter() for fold in range(1, count + 1)}
    fold_of_group: dict[str, int] = {}
    for group in sorted(kinds_in_group, key=by_size):
        kinds = kinds_in_group[group]
        [(most_frequent, _)] = kinds.most_common(1)
        chosen = _emptiest(kinds_in_fold, most_frequent)
        fold_of_group[group] = chosen
        kinds_in_fold[chosen].update(kinds)
    return {name: fold_of_group[group] for name, group in groups.items()}


def _emptiest(kinds_in_fold: Mapping[int, Counter[bool]], kind: bool) -> int:
    """The fold with the fewest frames of a kind; of several the one with the fewest frames."""

    def fullness(fold: int) -> tuple[int, int, int]:
        kinds = kinds_in_fold[fold]
        return kinds[kind], kinds.total(), fold

    return min(kinds_in_fold, key=fullness)
