"""Questions about views of rendered scenes, and their answers: what a base model learns from.

    see      which accidents there are, which vehicles and how large they look, which drawn boxes
    check    what lies in each of the boxes that the question lists
    choose   those of the listed boxes that show a vehicle
    copy     the listed boxes again, in another form; with a picture or without
    ground   where things are, and nothing else: short, so that places are learnt first

Nothing joins them into DAT's task: a listed box never helps to find an accident here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dat_runtime.types import SEVERITIES, Box, Size
from data.prep.asking import schemas
from data.prep.asking.schemas import Item, Schema
from data.prep.rendering.frames import Wreck
from data.prep.rendering.primer_scenes import COLOURS, Mark, View, about

LISTS = ("Gate boxes", "Given boxes", "Boxes", "Found")
"""How a prompt may begin its list."""
KINDS = ("see", "check", "choose", "copy")
SHARES = (0.45, 0.15, 0.28, 0.12)
TAGGED = 0.35
"""Share of the lists to copy whose labels mean nothing."""
TAGS = (*schemas.PLAIN, *SEVERITIES)
"""Such labels. The paper's words are among them, so that they have been read and said, and of no
severity; the others may be grades in another schema."""
GRADE_KEYS = ("severity", "grade")
"""Under these a tag would be a severity."""
IDLE_LISTS = 0.15
"""Share of the questions about accidents whose prompt lists boxes that are not theirs: a model that
had met lists to copy alone looked no more where a prompt held one."""
SIZED = 0.6
"""Share of the questions about vehicles that ask how large they look."""
SIZED_BY_OURS = 0.4
"""Share of those in which the paper's words stand for it, in either order: a model that had never
said them of what it sees took others that it knew, whatever the prompt said."""
LARGE = 0.04
"""Share of the picture from which on a vehicle is large."""
MISTOLD = 0.1
"""Share of the accidents whose grade is told as the other one, in all of an answer alike: so that
what an answer says later follows what it said before, and not another look at the picture."""
HIT = 0.4
"""IoU from which on a box shows a thing."""
MISSED = 0.1
"""IoU up to which a box does not show it."""


class Question(NamedTuple):
    """One exchange. `image`: whether the view is shown."""

    system: str
    prompt: str
    answer: str
    image: bool


def ask(rng: np.random.Generator, view: View) -> Question:
    """A question about a view."""
    kind = str(rng.choice(KINDS, p=SHARES))
    # A drawn box that is in no list, or a list of nothing, would be another question.
    if kind == "see" or kind == ("choose" if view.marks else "check"):
        return _see(rng, view)
    if kind == "check":
        return _check(rng, view)
    if kind == "choose":
        return _choose(rng, view)
    return copy(rng, view.image.shape[0], view.marks)


def ground(rng: np.random.Generator, view: View) -> Question:
    """The places of accidents, vehicles or drawn boxes, by looking."""
    return _see(rng, view, ("items",))


def _see(
    rng: np.random.Generator, view: View, kinds: Sequence[str] = schemas.ALL_KINDS
) -> Question:
    """Accidents, vehicles or drawn boxes, by looking."""
    things = str(rng.choice(("accidents", "vehicles", "marks"), p=(0.7, 0.2, 0.1)))
    if things == "marks" and not view.marks:
        things = "accidents"
    side = view.image.shape[0]
    prompt = _size(side)
    if things == "accidents":
        schema = schemas.draw(rng, things, graded=True, kinds=kinds)
        items, labels = _told(rng, view.wrecks), None
        if rng.random() < IDLE_LISTS:
            prompt += f" {_idle_list(rng, side, schema)}"
    elif things == "vehicles" and len(kinds) > 1 and rng.random() < SIZED:
        schema, items, labels = *_sized(rng, view), None
    elif things == "vehicles":
        schema = schemas.draw(rng, things, graded=False, kinds=kinds)
        items, labels = [Item(box, "") for box in _from_left(view.vehicles)][:6], ()
    else:
        schema = schemas.draw(rng, "drawn boxes", graded=False, kinds=kinds)
        marks = sorted(view.marks, key=lambda mark: mark.box[:2])
        items, labels = [Item(mark.box, mark.colour) for mark in marks], tuple(COLOURS)
    return Question(schema.system(labels), prompt, schema.answer(items), True)


def _idle_list(rng: np.random.Generator, side: int, schema: Schema) -> str:
    """Boxes anywhere, half of the time with the words of the schema's grades."""
    marks = random_marks(rng, side)
    words = [str(rng.choice(schema.grades)) for _ in marks] if rng.random() < 0.5 else None
    return _listed(rng, marks, words)


def _sized(rng: np.random.Generator, view: View) -> tuple[Schema, list[Item]]:
    """Vehicles, large ones first, by words that are no severities here."""
    schema = schemas.draw(rng, "vehicles", graded=True)
    while not {"count", "grade"} & {kind for kind, _ in schema.fields}:
        schema = schemas.draw(rng, "vehicles", graded=True)  # these two say what is asked about
    if rng.random() < SIZED_BY_OURS:
        low, high = rng.permutation(SEVERITIES)
        schema = replace(schema, grades=(str(low), str(high)))
    if schema.label_key in GRADE_KEYS:
        schema = replace(schema, label_key="label")
    fields = tuple((kind, "size" if key in GRADE_KEYS else key) for kind, key in schema.fields)
    large = [box.area >= LARGE * box.frame.pixels for box in view.vehicles]
    items = [Item(box, int(one)) for box, one in zip(view.vehicles, large, strict=True)]
    return replace(schema, fields=fields), _by_grade(items)[:6]


def _check(rng: np.random.Generator, view: View) -> Question:
    """What each listed box shows: a grade of an accident, or nothing of the kind."""
    schema = schemas.draw(rng, "boxes", graded=False)
    low, high = schemas.grade_words(rng)
    items = []
    for mark in view.marks:
        hits = [wreck for wreck in view.wrecks if wreck.box.iou(mark.box) >= HIT]
        word = "none" if not hits else (low, high)[hits[0].severity == "severe"]
        items.append(Item(mark.box, word))
    prompt = f"{_size(view.image.shape[0])} {_listed(rng, view.marks)}"
    return Question(schema.system(("none", low, high)), prompt, schema.answer(items), True)


def _choose(rng: np.random.Generator, view: View) -> Question:
    """The listed boxes that show a vehicle, as they are listed."""
    side = view.image.shape[0]
    chosen = rng.permutation(len(view.vehicles))[: rng.integers(0, 4)]
    right = [about(rng, view.vehicles[k]) for k in chosen]
    things = [*view.vehicles, *(wreck.box for wreck in view.wrecks)]
    wrong = [
        mark.box
        for mark in random_marks(rng, side)
        if all(mark.box.iou(thing) <= MISSED for thing in things)
    ]
    boxes = _from_left([*right, *wrong])
    marks = [Mark(str(rng.choice(list(COLOURS))), box) for box in boxes]
    schema = schemas.draw(rng, "listed vehicles", graded=False)
    items = [Item(box, "") for box in boxes if box in right]
    prompt = f"{_size(side)} {_listed(rng, marks)}"
    return Question(schema.system(()), prompt, schema.answer(items), True)


def copy(rng: np.random.Generator, side: int, marks: Sequence[Mark]) -> Question:
    """Listed boxes in the form of a schema, their labels as grades or as tags without meaning."""
    shown = bool(marks) and rng.random() < 0.5
    if not shown:
        marks = random_marks(rng, side)
    if rng.random() < TAGGED:
        return _copy_tags(rng, side, marks, shown)
    schema = schemas.draw(rng, "boxes", graded=True)
    grades = [int(rng.random() < 0.5) for _ in marks]
    listed = _listed(rng, marks, [schema.grades[grade] for grade in grades])
    # In the order of the list: a prompt lists boxes in the order of an answer.
    items = [Item(mark.box, grade) for mark, grade in zip(marks, grades, strict=True)]
    return Question(schema.system(), f"{_size(side)} {listed}", schema.answer(items), shown)


def _copy_tags(rng: np.random.Generator, side: int, marks: Sequence[Mark], shown: bool) -> Question:
    schema = schemas.draw(rng, "boxes", graded=False)
    if schema.label_key in GRADE_KEYS:
        schema = replace(schema, label_key="label")
    labels = tuple(str(tag) for tag in rng.choice(TAGS, int(rng.integers(2, 5)), replace=False))
    tags = [labels[rng.integers(len(labels))] for _ in marks]
    items = [Item(mark.box, tag) for mark, tag in zip(marks, tags, strict=True)]
    prompt = f"{_size(side)} {_listed(rng, marks, tags)}"
    return Question(schema.system(labels), prompt, schema.answer(items), shown)


def random_marks(rng: np.random.Generator, side: int) -> list[Mark]:
    """Up to four boxes anywhere."""
    marks = []
    for _ in range(int(rng.choice(5, p=(0.1, 0.35, 0.3, 0.15, 0.1)))):
        width, height = (int(k) for k in rng.integers(side // 12, side // 2, 2))
        x, y = int(rng.integers(0, side - width)), int(rng.integers(0, side - height))
        box = Box(x, y, x + width, y + height, Size(side, side))
        marks.append(Mark(str(rng.choice(list(COLOURS))), box))
    return marks


def _size(side: int) -> str:
    return f"Image {side} x {side}."


def _listed(
    rng: np.random.Generator, marks: Sequence[Mark], words: Sequence[str] | None = None
) -> str:
    """The boxes as a prompt lists them, each with a label and a number without meaning."""
    if not marks:
        return "There are no boxes."
    labels = words or [mark.colour for mark in marks]
    rows = [
        f"{label} {rng.uniform(0.25, 1):.2f} {list(mark.box.pixels())}"
        for label, mark in zip(labels, marks, strict=True)
    ]
    return f"{LISTS[rng.integers(len(LISTS))]}: {'; '.join(rows)}"


def _told(rng: np.random.Generator, wrecks: Sequence[Wreck]) -> list[Item]:
    """Those of the higher grade first, then from left to right; a few grades are `MISTOLD`."""
    severe = [(wreck.severity == "severe") != (rng.random() < MISTOLD) for wreck in wrecks]
    items = [Item(wreck.box, int(told)) for wreck, told in zip(wrecks, severe, strict=True)]
    return _by_grade(items)


def _by_grade(items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (-int(item.grade), *item.box[:2]))


def _from_left(boxes: Sequence[Box]) -> list[Box]:
    return sorted(boxes, key=lambda box: box[:2])
