"""The end of a training's log."""

from pathlib import Path

from train.recipe import log_tail


def test_a_logs_end_is_its_last_lines_with_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(b"one\n\ntwo \n 10%\r 20%\r 30%  \r\n\n\xff broken\r\n  \nlast")
    lines = ["one", "two", " 30%", "\N{REPLACEMENT CHARACTER} broken", "last"]
    assert log_tail.last_lines(log, 9) == lines
    assert log_tail.last_lines(log, 2) == lines[-2:]
    log.write_bytes(b"long ago\n" + b"50%\r" * 6_000 + b"50%\nthe error\n")
    assert log_tail.last_lines(log, 9) == ["50%", "the error"]
