import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.edge.cameras.pace import CatchUp, Playback, Throttle


def taken(fps: float, stamps: list[float]) -> list[float]:
    throttle = Throttle(fps)
    return [stamp for stamp in stamps if throttle.wants(stamp)]


def test_five_frames_a_second_of_25_are_every_fifth() -> None:
    stamps = [n / 25 for n in range(50)]
    assert taken(5, stamps) == stamps[::5]


@given(fps=st.floats(0.5, 40), source=st.floats(1, 60))
def test_no_more_frames_are_taken_than_are_wanted_and_no_fewer_than_there_are(
    fps: float, source: float
) -> None:
    seconds = 100
    stamps = [n / source for n in range(int(seconds * source))]
    number = len(taken(fps, stamps))
    assert number <= seconds * fps + 2
    # A frame is late by less than a period of the source.
    assert number >= seconds * min(fps, source) - seconds * fps * 0.01 - 2


def test_a_source_that_has_what_is_wanted_loses_no_frame_to_its_jitter() -> None:
    stamps = [n / 10 + (0.02 if n % 2 else 0.0) for n in range(40)]
    assert taken(10, stamps) == stamps


def test_the_frame_nearest_to_its_time_is_taken() -> None:
    # A quarter of a second early, and the next is expected half a second later.
    assert taken(1, [0.0, 0.25, 0.75]) == [0.0, 0.75]
    assert taken(1, [0.0, 0.25, 0.74]) == [0.0]


def test_a_frame_that_comes_a_whole_period_late_begins_anew() -> None:
    assert taken(1, [0.0, 2.0, 2.25]) == [0.0, 2.0]
    assert taken(1, [0.0, 1.75, 2.0]) == [0.0, 1.75, 2.0]


def test_after_a_gap_there_is_nothing_to_make_up_for() -> None:
    stamps = [0.0, *(60 + n / 25 for n in range(25))]
    assert len(taken(5, stamps)) == 1 + 5


def played(stamps: list[float | None], step: float = 0.04) -> list[float]:
    playback = Playback(100.0)
    return [playback.due(stamp, step, 0.0) - 100.0 for stamp in stamps]


def test_a_file_plays_by_its_own_time_stamps() -> None:
    assert played([3.0, 3.5, 3.6]) == pytest.approx([0.0, 0.5, 0.6])


def test_a_file_without_time_stamps_plays_by_its_rate() -> None:
    assert played([None, None, None], step=0.25) == pytest.approx([0.0, 0.25, 0.5])


def test_a_gap_of_five_seconds_is_waited_for_and_a_longer_one_is_not() -> None:
    assert played([0.0, 5.0, 10.5, 11.0]) == pytest.approx([0.0, 5.0, 5.04, 5.54])
    assert played([1.0, 1.0]) == pytest.approx([0.0, 0.0])


def test_where_a_file_starts_again_or_jumps_is_one_step() -> None:
    stamps = [0.0, 0.04, 0.0, 0.04, 95_443.7, 95_443.74]
    assert played(stamps) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.20])


def test_who_was_stopped_plays_on_from_there() -> None:
    playback = Playback(100.0)
    assert playback.due(0.0, 0.04, now=100.0) == 100.0
    assert playback.due(0.5, 0.04, now=100.9) == 100.5
    assert playback.due(0.6, 0.04, now=160.0) == 159.0
    assert playback.due(0.7, 0.04, now=159.0) == pytest.approx(159.1)


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_broken_time_stamps_neither_go_back_nor_keep_anyone_waiting(
    stamps: list[float | None],
) -> None:
    before = 0.0
    for now in played(stamps):
        assert math.isfinite(now)
        assert before <= now <= before + 5.001
        before = now


def left_out(waits: list[float], work: float, keys: int) -> list[int]:
    """Which packets are skipped, of some that are waited for so long, then worked on."""
    now, skipped = 0.0, []
    catch_up = CatchUp(now)
    for number, wait in enumerate(waits):
        if catch_up.skips(now, now + wait, is_key=number % keys == 0):
            skipped.append(number)
            now += wait
        else:
            now += wait + work
    return skipped


def test_a_stream_that_is_waited_for_is_shown_whole() -> None:
    assert left_out([0.03] * 200, work=0.01, keys=25) == []


def test_a_burst_at_the_start_is_shown_whole() -> None:
    assert left_out([0.0] * 90 + [0.03] * 50, work=0.01, keys=25) == []


def test_who_is_behind_skips_to_the_newest_and_resumes_at_a_key_frame() -> None:
    skipped = left_out([0.0] * 160 + [0.03] * 60, work=0.01, keys=25)
    # After a second of work without a pause; the wait ends at 160, the next key frame is 175.
    assert skipped[0] == pytest.approx(100, abs=2)
    assert skipped == list(range(skipped[0], 175))


def test_five_milliseconds_are_no_wait_and_a_second_is_not_behind() -> None:
    assert CatchUp(-2.0).skips(0.0, 0.005, is_key=False)
    assert CatchUp(-2.0).skips(0.0, 0.006, is_key=False) is False
    assert CatchUp(0.0).skips(0.0, 0.0, is_key=True) is False
    assert not CatchUp(0.0).skips(1.0, 1.0, is_key=False)
    assert CatchUp(0.0).skips(1.001, 1.001, is_key=False)
