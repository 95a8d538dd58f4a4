"""The part of the report that comes first: what a person has to decide before training."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from data.prep.importers.faults import WANTED
from data.prep.prepared.kept import Kept
from data.prep.reporting import pictures
from data.prep.reporting.shown import Shown
from data.prep.reporting.tables import table
from data.prep.splitting import resolution as choices
from data.prep.splitting.conflicts import FAULT, Conflict, nearness
from data.prep.splitting.leaks import KINDS, Link
from data.prep.splitting.resolution import Resolution

_PAIRS = 12
"""Pairs on a sheet."""
_EXAMPLES = 3
"""Examples shown of each kind of fault."""
_ELSEWHERE = (FAULT, "duplicate-frame", "duplicate-negative")
"""Kinds that have their own sheets, or are what the paper does."""
_REAL = ("refused", "left out", "dropped", "repaired")
"""What the rule of a fault begins with, where something of the source is lost or changed."""

_KIND_WORDS = {
    "two-folders": "under Accident and under Non Accident",
    "boxes-and-none": "with boxes and without",
    "other-boxes": "with other boxes (IoU under 0.9, another count or severity)",
}
_CHOICE_WORDS = {
    choices.LEAVE_OUT: "They were left out of train, and kept and marked in val and test.",
    choices.MERGE: "Their boxes were merged into one truth for every copy.",
    choices.KEEP: "All were kept, and marked.",
}
Item = TypeVar("Item")


def conflict_part(report: Mapping[str, Any], shown: Shown) -> str:
    """The contradictions: counts, what was done, and both pictures with their boxes."""
    part = report["conflicts"]
    if not part["frames"]:
        return '<p class="good">No picture has two truths.</p>'
    heads = ["left out", "merged", "marked"]
    rows = {split: [counts[head] for head in heads] for split, counts in part["outcomes"].items()}
    sheets = []
    for kind, count in part["kinds"].items():
        pairs = shown.resolution.pairs(kind)
        figures = pictures.pairs(_conflict_pair(shown.resolution, *pair) for pair in _spread(pairs))
        title = f"{kind}: {count:,} frames, one picture {_KIND_WORDS[kind]}"
        sheets.append(pictures.folded(title, figures))
    return (
        f'<p><b class="bad">{part["frames"]:,} frames contradict another frame of the same '
        f"picture.</b> {_CHOICE_WORDS[part['on_conflict']]} Look at some, then correct the source, "
        "or choose: <code class='opt'>--on-conflict leave-out</code>, <code>merge</code> or "
        "<code>keep</code>. "
        'A marked frame has <code>"conflict"</code> in its truth; all are in '
        f"<code>conflicts.json</code>.</p>{table('frames of', heads, rows)}{''.join(sheets)}"
    )


def _conflict_pair(resolution: Resolution, index: int, conflict: Conflict) -> str:
    words = f"{conflict.words} the other; {nearness(conflict)}"
    frames = [resolution.conflicts.frames[i] for i in (index, conflict.twin)]
    captions = [_told(resolution, i) for i in (index, conflict.twin)]
    figures = [pictures.of_source(*each) for each in zip(frames, captions, strict=True)]
    return pictures.pair(words, *figures)


def _told(resolution: Resolution, index: int) -> str:
    """Where a contradicted frame is, what it claims, and what became of it."""
    frame = resolution.conflicts.frames[index]
    outcome = resolution.outcomes.get(index)
    if outcome is None:
        return "an accident by its folder"
    split = resolution.judged[index].split
    return f"{split}: {pictures.said(frame.accidents)}; {outcome}"


def leak_part(folder: Path, report: Mapping[str, Any], shown: Shown) -> str:
    """Frames with a twin in another split: counts, and pairs with their boxes."""
    leaks = report["leaks"]
    twins = leaks["frames_with_a_twin"]
    rows = {where: [twins[where][kind] for kind in KINDS] for where in twins}
    sheets = []
    for kind in KINDS:
        links = [link for link in shown.across if link.kind == kind]
        figures = pictures.pairs(_leak_pair(folder, shown.kept, link) for link in _spread(links))
        title = f"{kind}: {len(links):,} pairs, shown from the nearest to the farthest"
        sheets.append(pictures.folded(title, figures))
    return (
        f"{_leak_verdict(report)}{table('frames of', KINDS, rows)}<p><small>Each frame counts by "
        "its strongest kind. Near: the same picture, even if encoded again, resized, mirrored, "
        "grey or noisy. Reframed: cropped, or turned by a few degrees. Same-source: augmented "
        "copies by Roboflow's names. Same-clip: one clip. "
        f"{leaks['groups']:,} groups of frames that belong together, the largest of "
        f"{leaks['largest_group']:,} frames; {leaks['groups_across_splits']:,} lie in more than "
        "one split. Each frame's closest twin: <code>leaks.json</code>.</small></p>"
        f"{''.join(sheets)}"
    )


def twins_of_test(report: Mapping[str, Any]) -> int:
    """Test frames with a twin in train."""
    counts: Mapping[str, int] = report["leaks"]["frames_with_a_twin"]["test in train"]
    return sum(counts.values())


def _leak_verdict(report: Mapping[str, Any]) -> str:
    twins = twins_of_test(report)
    if not twins:
        return '<p class="good">No test frame has a twin in train.</p>'
    frames = report["splits"]["test"]["frames"]
    return (
        f'<p><b class="bad">{twins:,} of {frames:,} test frames have a twin in train.</b> A score '
        "on this split is partly a memory. <code class='opt'>--leak-free</code> makes a split "
        "without them; report scores on both.</p>"
    )


def _leak_pair(folder: Path, kept: Sequence[Kept], link: Link) -> str:
    frames = [kept[index] for index in (link.first, link.second)]
    figures = [pictures.of_set(folder, frame, f"{frame.split}: ") for frame in frames]
    return pictures.pair(f"{link.kind}: {link.distance} of 256 bits differ", *figures)


def _spread(items: Sequence[Item]) -> list[Item]:
    """Up to twelve, from the nearest to the farthest: the farthest show if the rule is right."""
    if len(items) <= _PAIRS:
        return list(items)
    step = (len(items) - 1) / (_PAIRS - 1)
    return [items[round(i * step)] for i in range(_PAIRS)]


def is_real(kind: str, rule: str) -> bool:
    """Whether a fault of that kind lost or changed something that nobody asked to lose."""
    return rule.startswith(_REAL) and kind not in WANTED and kind not in _ELSEWHERE


def real_faults(report: Mapping[str, Any]) -> dict[str, int]:
    """Kinds of faults by which something of the source was lost or changed, and their counts."""
    faults = report["faults"]
    counts = faults["counts"].items()
    return {kind: count for kind, count in counts if is_real(kind, faults["rules"][kind])}


def notes(report: Mapping[str, Any]) -> dict[str, int]:
    """All other kinds: harmless, asked for, or shown elsewhere."""
    real = real_faults(report)
    counts = report["faults"]["counts"].items()
    return {kind: count for kind, count in counts if kind not in real and kind != FAULT}


def fault_sheets(report: Mapping[str, Any], kinds: Mapping[str, int], shown: Shown) -> str:
    """A folded sheet for each kind, with its rule and at most three examples."""
    by_kind = defaultdict(list)
    for fault in report["faults"]["list"]:
        by_kind[fault["kind"]].append(fault)
    sheets = []
    for kind, count in kinds.items():
        examples = by_kind[kind][:_EXAMPLES]
        figures = pictures.grid(_example(fault, shown) for fault in examples)
        title = f"<b>{kind}: {count:,}</b> {escape(report['faults']['rules'][kind])}"
        sheets.append(pictures.folded(title, figures))
    return "".join(sheets)


def _example(fault: Mapping[str, Any], shown: Shown) -> str:
    line = f":{fault['line']}" if fault["line"] else ""
    caption = f"{fault['file']}{line}: {fault['detail']}"
    return pictures.of_fault(shown.sources.path(fault["file"]), fault["line"], caption)
