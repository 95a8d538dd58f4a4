"""Which contradicted frames go, which are merged and which are marked, counted by hand."""

from dat_runtime.types import Accident
from data.prep.splitting.conflicts import Conflict
from data.prep.splitting.resolution import KEEP, LEAVE_OUT, MERGE, resolved, summary
from tests.data.prep.splitting.kept_builder import accident, kept

BOX, MERGED_BOX = accident(0, 0, 0.5, 0.5), accident(0, 0, 0.6, 0.6)


class Found:
    """Conflicts that were found, and the truths that merging makes."""

    def __init__(self, of: dict[int, Conflict], truths: dict[int, tuple[Accident, ...]]):
        self.of = of
        self._truths = truths

    def merged(self) -> dict[int, tuple[Accident, ...]]:
        return self._truths


def conflict(kind: str, twin: int, distance: int = 0, words: str = "") -> Conflict:
    return Conflict(kind, twin, distance, distance == 0, words)


FRAMES = [
    kept("a", BOX, split="train"),
    kept("b", BOX, split="test"),
    kept("c", split="test", negative=True),
    kept("d", split="train", negative=True),
    kept("e", split="val"),
    kept("f", BOX, split="train"),
    kept("g", BOX, split="val"),
]
FOUND = Found(
    {
        0: conflict("other-boxes", 1, 4),
        1: conflict("boxes-and-none", 2, 3),
        2: conflict("boxes-and-none", 1, 3),
        3: conflict("two-folders", 7),
        4: conflict("two-folders", 8, 1),
        6: conflict("other-boxes", 1, 5),
    },
    {0: (MERGED_BOX,), 1: (MERGED_BOX,), 2: (MERGED_BOX,)},
)
"""The frame f contradicts none; 7 and 8 are witnesses."""


def outcomes(choice: str) -> tuple[list[tuple[str, str, int]], dict[int, str]]:
    """Of the frames that stay name, mark and right edge of the box; and all outcomes."""
    resolution = resolved(FRAMES, FOUND, choice)
    staying = [
        (frame.id, frame.conflict, int(10 * frame.accidents[0].box.x2) if frame.accidents else 0)
        for frame in resolution.kept
    ]
    return staying, dict(resolution.outcomes)


def test_left_out_merged_or_kept() -> None:
    assert outcomes(LEAVE_OUT) == (
        [
            ("b", "boxes-and-none", 5),
            ("c", "boxes-and-none", 0),
            ("e", "two-folders", 0),
            ("f", "", 5),
            ("g", "other-boxes", 5),
        ],
        {0: "left out", 1: "marked", 2: "marked", 3: "left out", 4: "marked", 6: "marked"},
    )
    staying, what = outcomes(KEEP)
    assert [name for name, _, _ in staying] == list("abcdefg")
    assert set(what.values()) == {"marked"}
    # A negative goes that has boxes elsewhere; what nothing can be merged with is as by default.
    assert outcomes(MERGE) == (
        [
            ("a", "other-boxes", 6),
            ("b", "boxes-and-none", 6),
            ("e", "two-folders", 0),
            ("f", "", 5),
            ("g", "other-boxes", 5),
        ],
        {0: "merged", 1: "merged", 2: "left out", 3: "left out", 4: "marked", 6: "marked"},
    )


def test_a_report_counts_kinds_and_outcomes_by_split() -> None:
    none = {"left out": 0, "merged": 0, "marked": 0}
    assert summary(resolved(FRAMES, FOUND, MERGE)) == {
        "on_conflict": "merge",
        "radius_bits": 8,
        "frames": 6,
        "kinds": {"two-folders": 2, "boxes-and-none": 2, "other-boxes": 2},
        "outcomes": {
            "train": none | {"merged": 1, "left out": 1},
            "val": none | {"marked": 2},
            "test": none | {"merged": 1, "left out": 1},
        },
    }


def test_a_pair_is_listed_once_and_the_nearest_first() -> None:
    of = {
        0: conflict("other-boxes", 2, 4),
        1: conflict("other-boxes", 3, 1),
        2: conflict("other-boxes", 0, 4),
        3: conflict("other-boxes", 1, 1),
        4: conflict("other-boxes", 2, 4, words="others"),
        5: conflict("two-folders", 9, 0),
    }
    resolution = resolved(FRAMES, Found(of, {}), LEAVE_OUT)
    assert resolution.pairs("other-boxes") == [(1, of[1]), (0, of[0]), (4, of[4])]
    assert resolution.pairs("two-folders") == [(5, of[5])]
    assert (resolution.judged, resolution.choice) == (FRAMES, "leave-out")
