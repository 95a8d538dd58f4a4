"""What a person has to decide, to the letter but for the pictures."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from data.prep.importers.faults import RULES
from data.prep.reporting import decisions
from data.prep.reporting.listed import write_conflicts, write_leaks
from data.prep.reporting.shown import Shown
from data.prep.splitting.conflicts import Conflict
from data.prep.splitting.leaks import Link
from data.prep.splitting.resolution import KEEP, LEAVE_OUT, LEFT_OUT, MARKED, MERGE, Resolution
from tests.data.prep.reporting.small_set import FRAMES


def conflict(twin: int, kind: str = "other-boxes", distance: int = 3) -> Conflict:
    return Conflict(kind, twin, distance, distance == 0, f"says other things than <{twin}>")


def resolution(of: dict[int, Conflict], outcomes: dict[int, str], choice: str = KEEP) -> Resolution:
    conflicts: Any = SimpleNamespace(of=of, frames=FRAMES, twins=Counter(dict.fromkeys(of, 2)))
    return Resolution(FRAMES, FRAMES, conflicts, outcomes, choice)


def shown(resolved: Resolution, across: list[Link] | None = None, root: Path = Path()) -> Shown:
    sources: Any = SimpleNamespace(path=lambda name: root / name)
    return Shown(FRAMES, across or [], resolved, sources)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grey picture for each frame, of the source and of the set."""
    monkeypatch.chdir(tmp_path)
    for frame in FRAMES:
        for path in (tmp_path / frame.source.path, tmp_path / frame.image):
            path.parent.mkdir(parents=True, exist_ok=True)
            size = frame.size
            cv2.imwrite(str(path), np.full((size.height, size.width, 3), 90, np.uint8))
    return tmp_path


def words(text: str) -> str:
    """Without the pictures."""
    return re.sub(r'<img [^>]*src="data:image/jpeg;base64,[^"]+">', "IMG", text)


OUTCOMES = {
    "train": {"left out": 1, "merged": 0, "marked": 0},
    "test": {"left out": 0, "merged": 0, "marked": 1000},
}


def conflicts_of(choice: str) -> dict[str, Any]:
    kinds = {"two-folders": 0, "boxes-and-none": 0, "other-boxes": 1001}
    part = {"frames": 1001, "kinds": kinds, "outcomes": OUTCOMES, "on_conflict": choice}
    return {"conflicts": part}


def test_no_contradiction_needs_no_decision() -> None:
    found = decisions.conflict_part({"conflicts": {"frames": 0}}, shown(resolution({}, {})))
    assert found == '<p class="good">No picture has two truths.</p>'


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (LEAVE_OUT, "They were left out of train, and kept and marked in val and test."),
        (MERGE, "Their boxes were merged into one truth for every copy."),
        (KEEP, "All were kept, and marked."),
    ],
)
def test_contradictions_stand_side_by_side(pictures: Path, choice: str, said: str) -> None:
    of = {0: conflict(4), 4: conflict(0)}
    resolved = resolution(of, {0: LEFT_OUT, 4: MARKED}, choice)
    text = words(decisions.conflict_part(conflicts_of(choice), shown(resolved)))
    assert text == (
        '<p><b class="bad">1,001 frames contradict another frame of the same picture.</b> '
        f"{said} Look at some, then correct the source, or choose: <code class='opt'>--on-conflict "
        "leave-out</code>, <code>merge</code> or <code>keep</code>. A marked frame has "
        '<code>"conflict"</code> in its truth; all are in <code>conflicts.json</code>.</p>'
        "<table><tr><th>frames of</th><th>left out</th><th>merged</th><th>marked</th></tr>"
        "<tr><td>train</td><td>1</td><td>0</td><td>0</td></tr>"
        "<tr><td>test</td><td>0</td><td>0</td><td>1,000</td></tr></table>"
        "<details><summary>other-boxes: 1,001 frames, one picture with other boxes (IoU under 0.9, "
        'another count or severity)</summary><div class="sheet"><div class="pairs"><div '
        'class="pair"><p>says other things than &lt;4&gt; the other; 3 of 256 bits differ</p><div>'
        "<figure>IMG<figcaption><b>train: severe, moderate; left out</b><br>f0.jpg</figcaption>"
        "</figure><figure>IMG<figcaption><b>test: moderate, moderate; marked</b><br>f4.jpg"
        "</figcaption></figure></div></div></div></div></details>"
    )


def test_a_witness_is_an_accident_by_its_folder(pictures: Path) -> None:
    resolved = resolution({2: conflict(5, "two-folders")}, {2: MARKED})
    part = conflicts_of(KEEP)
    part["conflicts"]["kinds"] = {"two-folders": 1}
    text = words(decisions.conflict_part(part, shown(resolved)))
    assert "two-folders: 1 frames, one picture under Accident and under Non Accident" in text
    assert "<b>train: no box; marked</b><br>f2.jpg" in text
    assert "<b>an accident by its folder</b><br>f5.jpg" in text


TWINS = {
    "test in train": {"exact": 1, "near": 0, "reframed": 0, "same-source": 0, "same-clip": 1},
    "val in train": dict.fromkeys(("exact", "near", "reframed", "same-source", "same-clip"), 0),
}
LEAKS = {
    "splits": {"test": {"frames": 2000}},
    "leaks": {
        "frames_with_a_twin": TWINS,
        "groups": 1234,
        "largest_group": 5678,
        "groups_across_splits": 1001,
    },
}


def test_twins_are_shown_by_their_kind(pictures: Path) -> None:
    links = [Link(0, 4, "exact", 0), Link(1, 5, "same-clip", 99)]
    text = words(decisions.leak_part(pictures, LEAKS, shown(resolution({}, {}), links)))
    first, _, rest = text.partition("<table>")
    assert first == (
        '<p><b class="bad">2 of 2,000 test frames have a twin in train.</b> A score on this split '
        "is partly a memory. <code class='opt'>--leak-free</code> makes a split without them; "
        "report scores on both.</p>"
    )
    table, _, rest = rest.partition("</table>")
    assert table == (
        "<tr><th>frames of</th><th>exact</th><th>near</th><th>reframed</th><th>same-source</th>"
        "<th>same-clip</th></tr>"
        "<tr><td>test in train</td><td>1</td><td>0</td><td>0</td><td>0</td><td>1</td></tr>"
        "<tr><td>val in train</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td></tr>"
    )
    explained, _, sheets = rest.partition("</small></p>")
    assert explained == (
        "<p><small>Each frame counts by its strongest kind. Near: the same picture, even if "
        "encoded again, resized, mirrored, grey or noisy. Reframed: cropped, or turned by a few "
        "degrees. Same-source: augmented copies by Roboflow's names. Same-clip: one clip. 1,234 "
        "groups of frames that belong together, the largest of 5,678 frames; 1,001 lie in more "
        "than one split. Each frame's closest twin: <code>leaks.json</code>."
    )
    assert sheets == (
        "<details><summary>exact: 1 pairs, shown from the nearest to the farthest</summary>"
        '<div class="sheet"><div class="pairs"><div class="pair"><p>exact: 0 of 256 bits differ</p>'
        "<div><figure>IMG<figcaption><b>train: severe, moderate</b><br>f0</figcaption></figure>"
        "<figure>IMG<figcaption><b>test: moderate, moderate</b><br>f4</figcaption></figure></div>"
        "</div></div></div></details>"
        "<details><summary>same-clip: 1 pairs, shown from the nearest to the farthest</summary>"
        '<div class="sheet"><div class="pairs"><div class="pair"><p>same-clip: 99 of 256 bits '
        "differ</p><div><figure>IMG<figcaption><b>train: moderate</b><br>f1</figcaption></figure>"
        "<figure>IMG<figcaption><b>test: no box</b><br>f5</figcaption></figure></div>"
        "</div></div></div></details>"
    )


def test_a_test_part_without_twins_is_good() -> None:
    none = {"test in train": {"exact": 0}, "val in train": {"exact": 5}}
    report = {**LEAKS, "leaks": {**LEAKS["leaks"], "frames_with_a_twin": none}}
    assert decisions.twins_of_test(report) == 0
    assert decisions._leak_verdict(report) == (
        '<p class="good">No test frame has a twin in train.</p>'
    )


def test_twelve_pairs_are_spread_from_the_nearest_to_the_farthest() -> None:
    assert decisions._spread(range(12)) == list(range(12))
    assert decisions._spread(range(24)) == [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]


def faults(*kinds: str) -> dict[str, Any]:
    listed = [
        {"kind": kind, "file": f"<{kind}>.txt", "line": i % 2 * 7, "detail": f"detail {i}"}
        for kind in kinds
        for i in range(4)
    ]
    rules = {kind: RULES[kind] for kind in kinds}
    return {"faults": {"counts": dict.fromkeys(kinds, 4000), "rules": rules, "list": listed}}


def test_what_was_lost_or_changed_stands_apart_from_notes() -> None:
    kinds = (
        *("malformed-row", "polygon-row", "duplicate-row", "orphan-image"),  # lost or changed
        *("ignored-class", "system-file"),  # asked for
        *("empty-label", "download-key", "other-annotations"),
        *("duplicate-frame", "duplicate-negative", "conflicting-labels"),  # elsewhere
    )
    report = faults(*kinds)
    real = ["malformed-row", "polygon-row", "duplicate-row", "orphan-image", "other-annotations"]
    assert list(decisions.real_faults(report)) == real
    assert set(decisions.real_faults(report).values()) == {4000}
    assert list(decisions.notes(report)) == [
        *("ignored-class", "system-file", "empty-label", "download-key"),
        *("duplicate-frame", "duplicate-negative"),
    ]


def test_each_kind_of_fault_has_its_rule_and_three_examples(tmp_path: Path) -> None:
    report = faults("empty-label", "malformed-row")
    found = decisions.fault_sheets(report, {"malformed-row": 4000}, shown(resolution({}, {})))
    assert found == (
        "<details><summary><b>malformed-row: 4,000</b> refused: neither `class cx cy w h` nor "
        '`class x1 y1 x2 y2 x3 y3 ...`</summary><div class="sheet"><div class="grid">'
        "<figure><figcaption>&lt;malformed-row&gt;.txt: detail 0</figcaption></figure>"
        "<figure><figcaption>&lt;malformed-row&gt;.txt:7: detail 1</figcaption></figure>"
        "<figure><figcaption>&lt;malformed-row&gt;.txt: detail 2</figcaption></figure>"
        "</div></div></details>"
    )


def test_twins_and_contradictions_are_listed_one_a_line(tmp_path: Path) -> None:
    write_leaks(tmp_path, [], FRAMES)
    assert (tmp_path / "leaks.json").read_text() == "[]\n"
    links = [Link(0, 4, "exact", 0), Link(1, 5, "same-clip", 99)]
    write_leaks(tmp_path, links, FRAMES)
    assert (tmp_path / "leaks.json").read_text() == (
        '[\n{"kind": "exact", "bits": 0, "frames": ["train/f0", "test/f4"]},\n'
        '{"kind": "same-clip", "bits": 99, "frames": ["train/f1", "test/f5"]}\n]\n'
    )
    write_leaks(tmp_path, links[:1] * 10_001, FRAMES)
    assert (tmp_path / "leaks.json").read_text().count("\n") == 10_002
    of = {0: conflict(4), 4: conflict(0, distance=0)}
    write_conflicts(tmp_path, resolution(of, {0: LEFT_OUT, 4: MARKED}))
    assert (tmp_path / "conflicts.json").read_text() == (
        '[\n{"kind": "other-boxes", "outcome": "left out", "frame": null, "split": "train", '
        '"file": "f0.jpg", "twin": "f4.jpg", "twins": 2, "bits": 3},\n'
        '{"kind": "other-boxes", "outcome": "marked", "frame": "test/f4", "split": "test", '
        '"file": "f4.jpg", "twin": "f0.jpg", "twins": 2, "bits": 0}\n]\n'
    )
