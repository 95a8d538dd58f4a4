"""Folds of the training frames: a gate that left a fold out sees its frames as it sees new ones.

`data.prep.instruct --detections out-of-fold` lets each training frame be seen by the gate that was
not trained on it, so that the MLLM is tuned on the mistakes which the test will show.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import write_atomically

HELD_OUT = "held_out.json"
MAX_FOLDS = 100


@dataclass(frozen=True)
class Fold:
    """The fold `number`, counted from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> "Fold":
        """From `1/3`, as on the command line.

        Raises:
            ConfigError: it is no such pair.
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
    assigned = assign(read_groups(data, boxes), boxes, fold.count)
    held_out = sorted(name for name in boxes if assigned[name] == fold.number)
    content = {"fold": fold.number, "of": fold.count, "image_ids": held_out}
    write_atomically(folder / HELD_OUT, json.dumps(content, indent=1) + "\n")
    print(
        f"[gate] fold {fold}: {len(held_out)} of {len(boxes)} training frames left out", flush=True
    )
    return {name: count for name, count in boxes.items() if assigned[name] != fold.number}


def read_groups(data: Path, frames: Iterable[str]) -> dict[str, str]:
    """Each training frame's group of frames that belong together, as `data.prep.build` found them.

    Raises:
        DataError: see `leave_out`.
    """
    path = data / "groups.json"
    try:
        groups = json.loads(path.read_text("utf-8"))["train"]
        found = {str(name): str(group) for name, group in groups.items()}
    except FileNotFoundError:
        raise DataError("is missing: make the data again with this data.prep.build", path) from None
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"no groups of frames ({error!r:.60})", path) from None
    if strangers := found.keys() ^ set(frames):
        raise DataError(f"not about the training frames, such as {min(strangers)!r}", path)
    return found


def assign(groups: Mapping[str, str], boxes: Mapping[str, int], count: int) -> dict[str, int]:
    """The fold (1 to `count`) of each frame, the same for all of a group.

    From the largest group to the smallest, each goes where the fewest frames of its kind are, with
    boxes and without; a digest of the name decides between groups of one size, so that neighbours
    in a listing are spread.

    Raises:
        ConfigError: fewer groups than folds.
    """
    kinds: dict[str, Counter[bool]] = defaultdict(Counter)
    for name, group in groups.items():
        kinds[group][boxes[name] > 0] += 1
    if len(kinds) < count:
        raise ConfigError(
            f"the training frames are {len(kinds)} groups of frames that belong together, too few "
            f"for {count} folds: take fewer"
        )
    have: dict[int, Counter[bool]] = {fold: Counter() for fold in range(1, count + 1)}
    fold_of = {}
    for group in sorted(kinds, key=lambda g: (-kinds[g].total(), _rank(g))):
        most = kinds[group].most_common(1)[0][0]
        fold_of[group] = min(have, key=lambda fold: (have[fold][most], have[fold].total(), fold))
        have[fold_of[group]].update(kinds[group])
    return {name: fold_of[group] for name, group in groups.items()}


def _rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
