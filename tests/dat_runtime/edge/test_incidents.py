"""One accident is one event with updates: what is news, and what is not."""

import itertools
import random
import re
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime import alert
from dat_runtime.edge.incidents import (
    AGAIN,
    GONE,
    MOST,
    SOONEST,
    STILL_THERE,
    Incidents,
    Sighting,
    new_id,
)
from dat_runtime.types import Box, Detection, Severity, Size

FRAME = Size(1000, 500)


def at(
    x: float,
    y: float = 200,
    *,
    width: float = 100,
    severity: Severity | None = "moderate",
    confidence: float = 0.6,
    frame: Size = FRAME,
) -> Detection:
    """A box of some width, half as high, its top left corner at (x, y) of the frame."""
    box = Box(x, y, x + width, y + width / 2, FRAME).to(frame)
    return Detection(box, severity, confidence)


def news(
    frames: Iterable[tuple[float, Sequence[Detection]]], incidents: Incidents | None = None
) -> list[tuple[float, Sighting]]:
    """When there was news, and of what."""
    incidents = incidents or Incidents()
    told = []
    for now, detections in frames:
        sighting = incidents.see("gate-1", now, detections)
        assert (sighting is None) == (not detections)
        if sighting is not None and sighting.is_news:
            told.append((now, sighting))
    return told


def every(seconds: float, until: float, begin: float = 0.0) -> list[float]:
    return [begin + seconds * i for i in range(round((until - begin) / seconds))]


def test_a_new_accident_is_news_at_once_and_its_next_frames_are_not() -> None:
    told = news((t, [at(300)]) for t in every(0.2, 200))
    assert [t for t, _ in told] == [0]


def test_a_car_that_stands_for_an_hour_is_one_event_with_sparse_updates() -> None:
    told = news((t, [at(300)]) for t in every(1, 3600))
    assert len({s.id for _, s in told}) == 1
    assert [t for t, _ in told] == [STILL_THERE * i for i in range(12)]


def test_detections_that_flicker_and_jitter_make_one_event() -> None:
    chance = random.Random(3)

    def frame() -> list[Detection]:
        """Two cars that collided, each missed in most frames, never twice the same box."""
        seen = []
        for x in (300, 420):
            if chance.random() < 0.15:
                x, y = chance.gauss(x, 8), chance.gauss(200, 8)
                confidence = min(0.99, max(0.25, chance.gauss(0.6, 0.15)))
                severity = chance.choice(("moderate", "severe"))
                seen.append(
                    at(x, y, width=chance.gauss(100, 8), severity=severity, confidence=confidence)
                )
        return seen

    told = news((t, frame()) for t in every(0.5, 3600))
    assert len({s.id for _, s in told}) == 1
    assert len(told) <= 3600 / STILL_THERE + 8


def test_a_second_accident_elsewhere_is_a_new_event_with_its_own_boxes() -> None:
    told = news([(0, [at(100)]), (1, [at(100), at(700)]), (2, [at(100), at(700)])])
    (_, first), (when, second) = told
    assert when == 1
    assert first.id != second.id
    assert (first.detections, second.detections) == ((at(100),), (at(700),))


def test_what_is_new_in_one_frame_is_one_event() -> None:
    ((_, sighting),) = news([(0, [at(100), at(700)]), (5, [at(100)]), (9, [at(700)])])
    assert sighting.detections == (at(100), at(700))


@pytest.mark.parametrize(
    ("x", "same"), [(399, True), (449, True), (451, False), (251, True), (149, False)]
)
def test_boxes_within_half_a_box_of_each_other_belong_together(x: float, same: bool) -> None:
    incidents = Incidents()
    first = incidents.see("gate-1", 0, [at(300)])
    second = incidents.see("gate-1", 1, [at(x)])
    assert first is not None
    assert second is not None
    assert (first.id == second.id) is same


def test_of_two_incidents_the_nearer_one_is_seen_again() -> None:
    incidents = Incidents()
    left, right = (incidents.see("gate-1", t, [at(x)]) for t, x in ((0, 300), (1, 460)))
    assert left is not None
    assert right is not None
    for x, id in ((330, left.id), (430, right.id), (300, left.id)):
        seen = incidents.see("gate-1", 2, [at(x)])
        assert seen is not None
        assert seen.id == id


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (at(300, severity="severe"), "severe now"),
        (at(300, confidence=0.81), "surer"),
        (at(300, width=160), "grown"),
        (at(355), "moved"),
    ],
)
def test_an_accident_that_changes_is_told_again_but_not_at_once(after: Detection, why: str) -> None:
    told = news([(0, [at(300)]), *((t, [after]) for t in every(0.5, 60, begin=0.5))])
    assert [t for t, _ in told] == [0, SOONEST], why
    assert len({s.id for _, s in told}) == 1


@pytest.mark.parametrize(
    "after",
    [at(300, confidence=0.79), at(300, width=140), at(345), at(300, severity="moderate")],
)
def test_a_small_change_is_no_news(after: Detection) -> None:
    assert len(news([(0, [at(300)]), *((t, [after]) for t in every(1, 200, begin=1))])) == 1


def test_one_box_more_is_news_once() -> None:
    frames = [(t, [at(300), at(310)] if t % 2 else [at(300)]) for t in every(1, 200)]
    assert [t for t, _ in news(frames)] == [0, 3]


def test_what_was_told_once_is_not_news_again_after_other_news() -> None:
    two, one = [at(300, confidence=0.9), at(310)], [at(300, severity="severe")]
    told = news([(0, [at(300)]), (10, two), (20, one), (60, two), (100, one)])
    assert [t for t, _ in told] == [0, 10, 20]


def test_up_and_down_count_as_left_and_right() -> None:
    """Boxes 200 wide are 100 high: their reach is 50 pixels up and down."""
    told = news((t, [at(300, y, width=200)]) for t, y in ((0, 100), (9, 145), (19, 155)))
    assert [t for t, _ in told] == [0, 19]
    assert len({s.id for _, s in told}) == 1
    apart = news((t, [at(300, y, width=200)]) for t, y in ((0, 0), (1, 145), (9, 300)))
    assert [t for t, _ in apart] == [0, 9]
    assert len({s.id for _, s in apart}) == 2


def test_a_car_that_rolls_on_leaves_no_trail() -> None:
    rolls = [(t, [at(100 + 45 * t)]) for t in every(1, 15)]
    told = news([*rolls, (20, [at(100)])])
    assert len({s.id for _, s in told}) == 2


def test_a_place_where_nothing_was_seen_for_long_belongs_to_nobody() -> None:
    stays = [(t, [at(100)]) for t in every(10, GONE + 20, begin=10)]
    told = news([(0, [at(100), at(700)]), *stays, (GONE + 20, [at(100), at(700)])])
    assert len({s.id for _, s in told}) == 2
    assert told[-1][1].detections == (at(700),)


def test_of_two_pieces_of_news_the_new_accident_and_then_the_worse_one_is_told() -> None:
    incidents = Incidents()
    first = incidents.see("gate-1", 0, [at(100)])
    second = incidents.see("gate-1", 1, [at(500)])
    assert first is not None
    assert second is not None
    grave = [at(100), at(500, severity="severe")]
    told = news([(10, [*grave, at(800)]), (11, grave), (12, [at(100, confidence=0.9)])], incidents)
    assert [s.id for _, s in told[1:]] == [second.id, first.id]
    both = [at(100, severity="severe"), at(500, confidence=0.9)]
    ((_, sighting),) = news([(40, both)], incidents)
    assert sighting.id == first.id


def test_an_unknown_severity_is_severe() -> None:
    told = news([(0, [at(300)]), (5, [at(300, severity=None)]), (9, [at(300, severity="severe")])])
    assert [t for t, _ in told] == [0, 5]


def test_updates_get_sparse_but_a_turn_to_severe_does_not_wait() -> None:
    wanders = [(t, [at(100 + 40 * abs(t % 40 - 20))]) for t in every(1, 600)]
    told = news(wanders)
    gaps = [b - a for (a, _), (b, _) in pairwise(told)]
    assert len({s.id for _, s in told}) == 1
    assert all(later >= earlier for earlier, later in pairwise(gaps)), gaps
    last = told[-1][0]
    soon = news([*wanders, *((600 + t, [at(900, severity="severe")]) for t in every(1, 20))])
    assert soon[len(told)][0] == max(600, last + SOONEST)


def test_an_incident_ends_when_it_was_not_seen_for_long() -> None:
    for gap, events in ((GONE, 1), (GONE + 1, 2)):
        told = news([(0, [at(300)]), (gap, [at(300)])])
        assert len({s.id for _, s in told}) == events


def test_frames_that_show_nothing_end_nothing() -> None:
    told = news([(0, [at(300)]), *((t, []) for t in every(1, 100, begin=1)), (100, [at(300)])])
    assert len(told) == 1


def test_cameras_do_not_share_incidents() -> None:
    incidents = Incidents()
    seen = [incidents.see(camera, 0, [at(300)]) for camera in ("a", "b", "a")]
    assert [s is not None and s.is_news for s in seen] == [True, True, False]


def test_a_camera_that_changes_its_picture_size_shows_the_same_incident() -> None:
    small = at(300, frame=Size(320, 240))
    assert len(news([(0, [at(300)]), (1, [small]), (60, [at(300)])])) == 1


def test_news_without_an_answer_is_asked_about_again_with_growing_pauses() -> None:
    incidents = Incidents()
    told = []
    for now in every(1, 120):
        sighting = incidents.see("gate-1", now, [at(300)])
        assert sighting is not None
        if sighting.is_news:
            told.append(now)
            incidents.answered("gate-1", sighting.id, False)
            incidents.answered("gate-1", "unknown", False)
            incidents.answered("gate-2", sighting.id, False)
    assert told[:4] == [0, AGAIN, 2 * AGAIN, 2 * AGAIN + 12]
    again = incidents.see("gate-1", 200, [at(300)])
    assert again is not None
    assert again.is_news
    later = [(t, [at(300)]) for t in every(50, 200 + STILL_THERE, begin=250)]
    assert not news(later, incidents), "answered, as far as is known"
    first = Incidents()
    sighting = first.see("gate-1", 0, [at(300)])
    assert sighting is not None
    first.answered("gate-1", sighting.id, False)
    first.answered("gate-1", sighting.id, True)  # late
    assert not news([(t, [at(300)]) for t in every(1, 200)], first)


def test_a_view_full_of_boxes_makes_a_bounded_number_of_events() -> None:
    chance = random.Random(0)
    rain = [
        (t, [at(chance.uniform(0, 950), chance.uniform(0, 480), width=20) for _ in range(300)])
        for t in every(1, 20)
    ]
    one_by_one = [(t, [at((t * 137) % 950, (t * 71) % 480, width=10)]) for t in every(1, GONE)]
    assert len({s.id for _, s in news(rain)}) <= MOST
    incidents = Incidents()
    assert len({s.id for _, s in news(one_by_one, incidents)}) <= MOST
    (alive,) = incidents._alive.values()
    assert sum(len(i.boxes) for i in alive) <= MOST * 16


def test_of_more_boxes_than_an_alert_holds_the_surest_count() -> None:
    crowd = [at(10 * i, confidence=0.3 + i / 1000) for i in range(90)]
    ((_, sighting),) = news([(0, crowd)])
    assert set(sighting.detections) == set(crowd[-64:])


def test_nothing_stays_of_cameras_whose_incidents_ended() -> None:
    incidents = Incidents()
    for number in range(1000):
        incidents.see(f"camera-{number}", number, [at(300)])
        incidents.see(f"camera-{number}", number + GONE + 1, [])
    assert incidents._alive == {}


def test_ids_are_unique_and_an_alert_takes_them() -> None:
    ids = {new_id("gate-1") for _ in range(1000)}
    assert len(ids) == 1000
    longest = new_id("c" * 64)
    assert alert.ID.holds(longest)
    assert longest.startswith("c" * 64 + "-")


def unit(x1: float, y1: float, x2: float, y2: float) -> Detection:
    """A box in shares of the frame: quarters and eighths of it are exact."""
    return Detection(Box(x1, y1, x2, y2, Size(1, 1)), "moderate", 0.6)


def ids(*frames: Sequence[Detection], seconds: float = 1.0) -> list[str]:
    """Of what each frame is: the ids by the order in which they came."""
    number = itertools.count()
    incidents = Incidents(lambda camera: f"e{next(number)}")
    seen = [incidents.see("gate-1", seconds * i, frame) for i, frame in enumerate(frames)]
    return [sighting.id for sighting in seen if sighting is not None]


def turned(detection: Detection) -> Detection:
    """The same with up and down for left and right."""
    x1, y1, x2, y2, frame = detection.box
    return Detection(Box(y1, x1, y2, x2, frame), detection.severity, detection.confidence)


@pytest.mark.parametrize("swap", [False, True], ids=["as they came", "swapped"])
@pytest.mark.parametrize("turn", [False, True], ids=["beside", "below"])
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (unit(0.25, 0, 0.5, 0.25), unit(0.625, 0, 0.875, 0.25), True),  # half a box apart
        (unit(0.25, 0, 0.5, 0.25), unit(0.626, 0, 0.876, 0.25), False),
        # Half of the smaller box counts, wherever in the frame it lies.
        (unit(0.0, 0, 0.5, 0.5), unit(0.5625, 0, 0.6875, 0.125), True),
        (unit(0.0, 0, 0.5, 0.5), unit(0.59375, 0, 0.71875, 0.125), False),
    ],
)
def test_half_of_the_smaller_box_may_lie_between_two(
    one: Detection, other: Detection, same: bool, turn: bool, swap: bool
) -> None:
    pair = [turned(d) if turn else d for d in ((other, one) if swap else (one, other))]
    assert ids([pair[0]], [pair[1]]) == ["e0", "e0" if same else "e1"]


def test_a_box_takes_the_place_of_the_nearest_one_up_to_half_a_box_away() -> None:
    here, next_to_it, before_it = (unit(x, 0, x + 0.25, 0.25) for x in (0.25, 0.625, 0.0))
    assert ids([here], [next_to_it], [before_it]) == ["e0", "e0", "e1"]
    far_left, moved, small = unit(0, 0.75, 0.25, 1), unit(0.75, 0, 1, 0.25), (0.3125, 0.4375)
    behind = unit(small[0], 0, small[1], 0.125)
    assert ids([far_left, unit(0.5, 0, 0.75, 0.25)], [moved], [behind]) == ["e0", "e0", "e1"]


def test_a_box_farther_away_keeps_its_place() -> None:
    left, right, between = (unit(x, 0, x + 0.25, 0.25) for x in (0.0, 0.5, 0.4375))
    below_left = unit(0, 0.25, 0.25, 0.5)
    assert ids([left, right], [right, between], [below_left]) == ["e0", "e0", "e0"]


def test_a_box_is_remembered_as_long_as_an_incident() -> None:
    for pause, same in ((GONE, True), (GONE + 1, False)):
        last = 1000 + pause
        incidents = Incidents()
        both, one = [at(100), at(700)], [at(100)]
        seen = [incidents.see("a", t, f) for t, f in ((1000, both), (1060, one), (last, one))]
        again = incidents.see("a", last + 1, [at(700)])
        assert seen[0] is not None
        assert again is not None
        assert (again.id == seen[0].id) is same


def test_of_more_than_sixteen_boxes_those_seen_last_are_remembered() -> None:
    grid = [unit(x / 5, y / 5, x / 5 + 0.01, y / 5 + 0.01) for x in range(4) for y in range(4)]
    beside_the_last = unit(0.62, 0.6, 0.63, 0.61)
    frames = (grid, grid[8:], [grid[15], beside_the_last])
    assert ids(*frames, [grid[7]], [grid[14]]) == ["e0", "e0", "e0", "e1", "e0"]
    assert ids(*frames, [grid[0]], [grid[6]]) == ["e0"] * 5


def test_as_many_boxes_as_an_alert_holds_come_in_their_own_order() -> None:
    crowd = [at(10 * i, confidence=0.3 + i / 1000) for i in range(64)]
    ((_, sighting),) = news([(0, crowd)])
    assert sighting.detections == tuple(crowd)


def test_a_first_frame_may_show_nothing() -> None:
    assert Incidents().see("gate-1", 0, []) is None


def test_what_is_surer_by_a_fifth_is_news() -> None:
    told = news([(0, [at(300, confidence=0.5)]), (10, [at(300, confidence=0.7)])])
    assert [t for t, _ in told] == [0, 10]


@pytest.mark.parametrize("turn", [False, True], ids=["right", "down"])
@pytest.mark.parametrize(("by", "is_news"), [(0.125, False), (0.126, True)])
def test_a_move_by_more_than_half_of_the_whole_is_news(
    by: float, is_news: bool, turn: bool
) -> None:
    boxes = [unit(x, 0.25, x + 0.25, 0.5) for x in (0.25, 0.25 + by)]
    first, second = (turned(box) if turn else box for box in boxes)
    assert len(news([(0, [first]), (10, [second])])) == 1 + is_news


def test_an_id_tells_the_camera_and_the_millisecond() -> None:
    found = re.fullmatch(r"gate-1-(\d{13})-[0-9a-f]{8}", new_id("gate-1"))
    assert found is not None
    assert int(found[1]) / 1000 == pytest.approx(time.time(), abs=60)


detections = st.lists(
    st.builds(
        at,
        st.floats(-50, 1050),
        st.floats(-50, 550),
        width=st.floats(0, 1000),
        severity=st.sampled_from(["moderate", "severe", None]),
        confidence=st.floats(0.01, 1),
        frame=st.sampled_from([FRAME, Size(1, 1), Size(30, 4000)]),
    ),
    max_size=5,
)


@given(st.lists(st.tuples(st.floats(0, 400), detections), max_size=40))
def test_news_of_an_incident_is_apart_and_never_lost(
    frames: list[tuple[float, list[Detection]]],
) -> None:
    incidents, now = Incidents(), 0.0
    last: dict[str, float] = {}
    for pause, seen in frames:
        now += pause
        sighting = incidents.see("gate-1", now, seen)
        assert (sighting is None) == (not seen)
        if sighting is None:
            continue
        assert sighting.detections
        assert set(sighting.detections) <= set(seen)
        if sighting.is_news:
            assert now - last.get(sighting.id, -sys.float_info.max) >= SOONEST
            last[sighting.id] = now
        else:
            assert sighting.id in last, "seen, so it was told of"
        # Whatever is alive was told of, so that no accident waits for its second frame.
        for alive in incidents._alive.get("gate-1", ()):
            assert alive.id in last


def test_a_word_on_an_answer_is_heard_while_a_frame_is_looked_at() -> None:
    def new_id(camera: str) -> str:
        # Another thread may speak at any moment of `see`; this is one in its middle.
        incidents.answered(camera, "e0", False)
        return f"e{next(number)}"

    number = itertools.count()
    incidents = Incidents(new_id)
    assert incidents.see("a", 0.0, [at(100)]) is not None
    assert incidents.see("a", 1.0, [at(100), at(700)]) is not None
    again = incidents.see("a", 11.0, [at(100)])
    assert again is not None
    assert (again.id, again.is_news) == ("e0", True)
