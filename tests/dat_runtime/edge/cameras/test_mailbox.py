"""A camera's end of the line: what it says, and how often, at times that the test sets."""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from dat_runtime.edge.cameras import mailbox as module
from dat_runtime.edge.cameras.mailbox import Mailbox, SourceError
from dat_runtime.edge.cameras.wire import ASK, HEADER_BYTES, Kind, Message, Word, unpacked


class Time:
    def __init__(self) -> None:
        self.passed = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.passed

    def time(self) -> float:
        return 1.8e9 + self.passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def line() -> Iterator[tuple[Mailbox, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Mailbox(theirs), ours


Line = tuple[Mailbox, socket.socket]


def told(ours: socket.socket) -> list[Message]:
    """What was said so far, without a word of pixels."""
    ours.setblocking(False)
    try:
        content = ours.recv(1 << 16)
    except BlockingIOError:
        return []
    parts = range(0, len(content), HEADER_BYTES)
    return [unpacked(content[at : at + HEADER_BYTES]) for at in parts]


def test_what_is_lost_while_losses_are_told_is_told_next(line: Line, clock: Time) -> None:
    """Frames are lost in two threads: one may count while the other tells."""
    mailbox, ours = line
    tell = mailbox.tell

    def tell_slowly(message: Message) -> None:
        tell(message)
        if message.word == Word.LATE:
            mailbox.lost(Word.DAMAGED, 3)

    mailbox._told_at = clock.passed
    mailbox.lost(Word.LATE, 2)
    mailbox.tell = tell_slowly  # type: ignore[method-assign]
    mailbox.last_word(Kind.ENDED)
    mailbox.last_word(Kind.ENDED)
    assert [(m.kind, m.word, m.number) for m in told(ours)] == [
        (Kind.DROPPED, Word.LATE, 2),
        (Kind.ENDED, Word.NOTHING, 0),
        (Kind.DROPPED, Word.DAMAGED, 3),
        (Kind.ENDED, Word.NOTHING, 0),
    ]


def picture(content: bytes = b"abcdef" * 3) -> Callable[[], memoryview]:
    return lambda: memoryview(content)


ALIVE = Message(Kind.ALIVE)


def offer(number: int) -> Message:
    return Message(Kind.OFFER, number=number)


def test_each_frame_is_offered_by_its_number(line: Line, clock: Time) -> None:
    mailbox, ours = line
    mailbox.put(3, 2, picture())
    mailbox.put(3, 2, picture())
    assert told(ours) == [offer(1), offer(2)]


def test_a_sign_of_life_is_given_once_a_second_and_an_offer_is_one(line: Line, clock: Time) -> None:
    mailbox, ours = line
    mailbox.alive()
    assert told(ours) == [ALIVE]
    clock.passed += 0.999
    mailbox.alive()
    assert told(ours) == []
    clock.passed += 0.001
    mailbox.alive()
    assert told(ours) == [ALIVE]
    clock.passed += 0.5
    mailbox.put(3, 2, picture())
    clock.passed += 0.999
    mailbox.alive()
    assert told(ours) == [offer(1)]
    clock.passed += 0.001
    mailbox.alive()
    assert told(ours) == [ALIVE]


def dropped(word: Word, number: int) -> Message:
    return Message(Kind.DROPPED, word, number)


def test_what_is_lost_is_summed_and_told_once_a_second(line: Line, clock: Time) -> None:
    mailbox, ours = line
    mailbox.lost(Word.DAMAGED)
    assert told(ours) == [dropped(Word.DAMAGED, 1)]
    mailbox.lost(Word.DAMAGED, 3)
    mailbox.lost(Word.LATE)
    clock.passed += 0.999
    mailbox.lost(Word.DAMAGED)
    mailbox.rescaled()
    assert told(ours) == []
    clock.passed += 0.001
    mailbox.rescaled()
    rescaled = Message(Kind.RESCALED, Word.NOTHING, 2)
    assert told(ours) == [dropped(Word.DAMAGED, 4), dropped(Word.LATE, 1), rescaled]
    clock.passed += 0.999
    mailbox.lost(Word.LATE)
    assert told(ours) == []  # counted from when it was told


def test_what_is_lost_is_told_with_the_next_frame_sign_of_life_or_last_word(
    line: Line, clock: Time
) -> None:
    mailbox, ours = line
    mailbox.alive()
    mailbox.lost(Word.LATE)
    mailbox.put(3, 2, picture())
    assert told(ours) == [ALIVE, dropped(Word.LATE, 1), offer(1)]
    mailbox.lost(Word.LATE, 2)
    clock.passed += 1
    mailbox.alive()
    assert told(ours) == [dropped(Word.LATE, 2), ALIVE]
    mailbox.lost(Word.LATE, 4)
    mailbox.last_word(Kind.FAILED, Word.BROKE_OFF)
    assert told(ours) == [dropped(Word.LATE, 4), Message(Kind.FAILED, Word.BROKE_OFF)]
    mailbox.last_word(Kind.ENDED)
    assert told(ours) == [Message(Kind.ENDED)]


def test_a_wait_gives_signs_of_life_and_no_step_is_long(line: Line, clock: Time) -> None:
    mailbox, ours = line
    mailbox.wait_until(100.0)
    mailbox.wait_until(99.0)
    assert clock.slept == []
    mailbox.wait_until(102.25)
    assert clock.slept == [0.5, 0.5, 0.5, 0.5, 0.25]
    assert told(ours) == [ALIVE, ALIVE]


def test_a_source_that_fails_says_so_in_a_word() -> None:
    error = SourceError(Word.NO_FRAME)
    assert (error.word, str(error)) == (Word.NO_FRAME, "no frame in it")


class Ended(BaseException):
    """In the place of the process's end."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return codes


def served(mailbox: Mailbox) -> None:
    with pytest.raises(Ended):
        mailbox.serve()


def test_whoever_asks_gets_the_newest_frame_with_its_pixels_once(
    line: Line, clock: Time, ends: list[int]
) -> None:
    mailbox, ours = line
    mailbox.put(9, 9, picture(b""))
    clock.passed += 2
    mailbox.put(3, 2, picture())
    told(ours)
    ours.sendall(ASK)
    ours.shutdown(socket.SHUT_WR)
    served(mailbox)
    content = ours.recv(1 << 16)
    message = Message(Kind.FRAME, Word.NOTHING, 2, 3, 2, 1.8e9 + 102.0, 102.0)
    assert unpacked(content[:HEADER_BYTES]) == message
    assert content[HEADER_BYTES:] == b"abcdef" * 3
    assert ends == [0]
    assert mailbox._newest is None


def test_what_is_no_question_ends_the_process(line: Line, ends: list[int]) -> None:
    mailbox, ours = line
    ours.sendall(b"!")
    served(mailbox)
    assert ends == [0]


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError])
def test_a_frame_that_cannot_be_converted_is_lost_and_the_next_one_is_given(
    line: Line, clock: Time, ends: list[int], error: type[Exception]
) -> None:
    mailbox, ours = line

    def broken() -> memoryview:
        later.start()
        raise error

    later = threading.Thread(target=lambda: mailbox.put(3, 2, picture()))
    mailbox.put(3, 2, broken)
    told(ours)
    ours.setblocking(True)
    ours.sendall(ASK)
    ours.shutdown(socket.SHUT_WR)
    served(mailbox)
    later.join()
    ours.setblocking(False)
    content = ours.recv(1 << 16)
    assert content.endswith(b"abcdef" * 3)
    headers = content[: -len(b"abcdef" * 3)]
    messages = [
        unpacked(headers[at : at + HEADER_BYTES]) for at in range(0, len(headers), HEADER_BYTES)
    ]
    kinds = [(message.kind, message.number) for message in messages]
    assert (Kind.FRAME, 2) in kinds
    assert sum(n for kind, n in kinds if kind == Kind.DROPPED) + sum(mailbox._lost.values()) == 1
