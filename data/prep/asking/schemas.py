"""Random answer schemas, worded as prompts word them, and the answers that follow them.

The task prompt of DAT is one sentence of this small language (`dat_runtime.prompt.SYSTEM`), with
words for grades that are left out here: a base model knows schemas, and meets ours when it is
tuned.
"""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dat_runtime.types import SEVERITIES, Box
from data.prep.rendering.primer_scenes import COLOURS

GRADES = (
    ("minor", "major"), ("light", "heavy"), ("low", "high"), ("slight", "serious"),
    ("small", "large"), ("mild", "grave"), ("weak", "strong"), ("normal", "urgent"),
)  # fmt: skip
"""Pairs of words for the two grades of a thing, the lower one first. Not the paper's."""

PLAIN = (*COLOURS, "near", "far", "left", "right")
"""Words that mean no grade."""

ANY_SHARE = 0.4
"""Share of the schemas whose grades are called by any two of `WORDS`; the words of the others are
invented. So the prompt alone tells which grade a word stands for: with few words, or words that
mean grades, a model named what it saw by one that it knew by heart."""

SYLLABLE = (
    ("", "b", "br", "c", "cl", "d", "dr", "f", "g", "h", "j", "k", "l", "m", "n", "p", "pr", "qu",
     "r", "s", "sh", "sp", "st", "t", "tr", "v", "w", "z"),
    ("a", "e", "i", "o", "u", "ea", "ou", "y"),
    ("", "", "", "d", "l", "m", "n", "nd", "r", "re", "s", "st", "t", "te", "ve", "x"),
)  # fmt: skip
"""How an invented word's syllable may begin, go on and end."""

ROLES = (
    "You are a road observer.", "You are a traffic analyst.", "You look at road pictures.",
    "You are a helpful assistant.", "You are a camera operator.", "You read pictures.",
)  # fmt: skip
FORMS = (
    "Answer with one JSON object and nothing else: {}",
    "Reply with one JSON object: {}",
    "Answer in JSON: {}",
    "Answer with one JSON object of this form and nothing else: {}",
)
SCORES = (
    "from 0 to 1, at least 0.5 exactly when {high}",
    "a number from 0 to 1, 0.5 or more if {high}, else less",
    "danger from 0 to 1, under 0.5 unless {high}",
    "importance from 0 to 1, at least 0.5 exactly when {level} is 1",
    "urgency from 0 to 1, 0.5 or more when {level} is 1, else under 0.5",
)
"""How the score is described: by the higher grade, or by the level where an answer has one."""
KEYS = {
    "count": ("count", "number", "total", "amount", "n"),
    "grade": ("severity", "grade", "class", "kind", "danger", "state"),
    "level": ("level", "alarm", "flag", "alert", "code"),
    "score": ("score", "urgency", "weight", "value", "rank"),
    "items": ("accidents", "items", "objects", "boxes", "list", "events"),
    "summary": ("summary", "text", "caption", "note", "title"),
}
"""What a field may be called; the first names are ours, the words around them are not."""
ALL_KINDS = tuple(KEYS)
BOX_KEYS = ("bbox", "bbox_2d", "box", "rect", "position")
LABEL_KEYS = ("severity", "label", "grade", "type", "name")
WORDS = tuple(dict.fromkeys((
    *itertools.chain(*GRADES, *KEYS.values()), *PLAIN, *BOX_KEYS, *LABEL_KEYS,
)))  # fmt: skip
"""Short words, most of them one piece of a tokenizer."""
LEARNT = tuple(dict.fromkeys(re.findall("[a-z]{6,}", " ".join((
    *ROLES, *FORMS, *SCORES, *itertools.chain(*GRADES, *KEYS.values()), *BOX_KEYS, *LABEL_KEYS,
)))))  # fmt: skip
"""Long words of the prompts. A tokenizer builds them up piece by piece, and some of those pieces
stand in no other word."""
BORROWED = 0.4
"""Share of an invented word's parts that are cut out of a learnt word, half of them its beginning:
a model cannot copy a piece that it has never met by itself."""
SHARES = {"count": 0.85, "grade": 0.6, "level": 0.5, "score": 0.5, "items": 0.95, "summary": 0.5}
"""How often a schema has each field."""
IN_OUR_ORDER = 0.5
"""Share of the schemas whose fields come in the order of `KEYS`."""


class Item(NamedTuple):
    """A thing of an answer. `grade`: 0 or 1, or the word that it bears instead."""

    box: Box
    grade: int | str


@dataclass(frozen=True)
class Schema:
    """The form of one answer.

    Attributes:
        things: what is counted and listed, in the plural.
        fields: (kind, key) in their order. grades: the words of both grades.
        score: one of `SCORES`; with a level only if there is a field for it.
    """

    things: str
    fields: tuple[tuple[str, str], ...]
    box_key: str
    label_key: str
    grades: tuple[str, str]
    limit: int
    role: str
    form: str
    score: str = SCORES[0]

    def system(self, labels: Sequence[str] | None = None) -> str:
        """The system message that asks for it.

        Args:
            labels: words that items may bear, none for items without; by default the grades.
        """
        parts = [f'"{key}": {self._described(kind, labels)}' for kind, key in self.fields]
        return f"{self.role} " + self.form.format("{" + ", ".join(parts) + "}")

    def _described(self, kind: str, labels: Sequence[str] | None) -> str:
        low, high = self.grades
        level = dict(self.fields).get("level", "")
        words = self.grades if labels is None else labels
        items = f'[{{"{self.box_key}": [x1, y1, x2, y2] in pixels of the image'
        if words:
            either = ", ".join(f'"{word}"' for word in words[:-1])
            items += f', "{self.label_key}": {either} or "{words[-1]}"'
        return {
            "count": f"number of {self.things}",
            "grade": f'"none", "{low}" or "{high}", the highest of all {self.things}',
            "level": f"1 if {high}, else 0",
            "score": self.score.format(high=high, level=level),
            "items": items + "}]",
            "summary": f"at most {self.limit} characters",
        }[kind]

    def answer(self, items: Sequence[Item]) -> str:
        """The answer about these things, in the order in which they are to be listed."""
        grades = [item.grade for item in items if isinstance(item.grade, int)]
        highest = max(grades, default=-1)
        listed = []
        for item in items:
            word = self.grades[item.grade] if isinstance(item.grade, int) else item.grade
            entry: dict[str, Any] = {self.box_key: list(item.box.pixels())}
            listed.append({**entry, self.label_key: word} if word else entry)
        value = {
            "count": len(items),
            "grade": ("none", *self.grades)[highest + 1],
            "level": int(highest == 1),
            "score": _score(items, highest),
            "items": listed,
            "summary": self._summary(items),
        }
        return json.dumps({key: value[kind] for kind, key in self.fields}, ensure_ascii=False)

    def _summary(self, items: Sequence[Item]) -> str:
        name = self.things.capitalize()
        if not items:
            return f"No {self.things.removesuffix('s')}."
        words = [self.grades[i.grade] if isinstance(i.grade, int) else i.grade for i in items]
        counted = [f"{words.count(word)} {word}" for word in dict.fromkeys(words) if word]
        return f"{name}: {', '.join(counted) or len(items)}."


def _score(items: Sequence[Item], highest: int) -> float:
    """More for a larger share of the picture; never near 0.5, on whose side the grade decides."""
    if not items:
        return 0.0
    share = min(1.0, sum(item.box.area / item.box.frame.pixels for item in items))
    return round((0.55 if highest == 1 else 0.05) + 0.4 * share, 2)


def draw(
    rng: np.random.Generator, things: str, graded: bool, kinds: Sequence[str] = ALL_KINDS
) -> Schema:
    """A random schema with some of the `kinds` of fields.

    Without grades it has no fields that need them.
    """
    chosen = [kind for kind in kinds if rng.random() < SHARES[kind]]
    if not graded:
        chosen = [kind for kind in chosen if kind not in ("grade", "level", "score")]
    if "items" not in chosen and "count" not in chosen:
        chosen.append("items")
    if rng.random() > IN_OUR_ORDER:
        chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    else:
        chosen.sort(key=list(KEYS).index)
    taken: set[str] = set()
    fields = []
    for kind in chosen:
        free = [key for key in KEYS[kind] if key not in taken]
        # The first names are ours: half of the time one of the others.
        key = free[0] if rng.random() < 0.4 else str(rng.choice(free))
        taken.add(key)
        fields.append((kind, key))
    scores = SCORES if "level" in chosen else [text for text in SCORES if "{level}" not in text]
    return Schema(
        things=things,
        fields=tuple(fields),
        box_key=str(rng.choice(BOX_KEYS)),
        label_key=str(rng.choice(LABEL_KEYS)),
        grades=grade_words(rng) if graded else ("", ""),
        limit=int(rng.choice((40, 80, 100, 120, 200, 250))),
        role=str(rng.choice(ROLES)),
        form=str(rng.choice(FORMS)),
        score=str(rng.choice(scores)),
    )


def grade_words(rng: np.random.Generator) -> tuple[str, str]:
    """Words of the lower and of the higher grade."""
    if rng.random() < ANY_SHARE:
        low, high = rng.choice(WORDS, 2, replace=False)
        return str(low), str(high)
    low, high = (_invented(rng) for _ in range(2))
    return low, high if high != low else f"{high}n"


def _invented(rng: np.random.Generator) -> str:
    """A word that a model has to read piece by piece, for it will not meet it again.

    Of one part or two, of many forms: where all were of one form, a model went on by habit in the
    middle of a word that it was to copy. It does not hold the paper's words.
    """
    while True:
        word = "".join(_part(rng) for _ in range(rng.integers(1, 3)))
        if len(word) > 2 and not any(ours in word for ours in ("none", *SEVERITIES)):
            return word


def _part(rng: np.random.Generator) -> str:
    """A syllable, or three letters or more of a learnt word."""
    if rng.random() < BORROWED:
        word = LEARNT[rng.integers(len(LEARNT))]
        first = int(rng.integers(len(word) - 2)) if rng.random() < 0.5 else 0
        return word[first : int(rng.integers(first + 3, len(word) + 1))]
    return "".join(str(rng.choice(sound)) for sound in SYLLABLE)
