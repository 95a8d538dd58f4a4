import asyncio
import threading
from pathlib import Path

import pytest

from dat_runtime.network import client_tls, in_daemon_thread, is_loopback


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_only(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.7", "::", "localhost.example", "a b"])
def test_elsewhere_or_everywhere(host: str) -> None:
    assert not is_loopback(host)


def test_files_without_certificates_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for authorities, certificate in (
        (tmp_path / "empty.pem", None),
        (None, tmp_path / "empty.pem"),
        (tmp_path / "none.pem", None),
    ):
        with pytest.raises(OSError, match=r"\S"):
            client_tls(authorities, certificate)


def test_work_in_a_thread_of_its_own_comes_to_its_result_or_its_error() -> None:
    async def ask() -> tuple[bool, str]:
        def fail() -> None:
            raise KeyError("a defect")

        with pytest.raises(KeyError, match="a defect"):
            await in_daemon_thread(fail, "x")

        def who() -> tuple[bool, str]:
            thread = threading.current_thread()
            return thread.daemon, thread.name

        return await in_daemon_thread(who, "look-up")

    assert asyncio.run(ask()) == (True, "look-up")


def test_nobody_waits_for_work_that_is_given_up_or_outlives_its_loop() -> None:
    goes_on, ends = threading.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def work() -> int:
        goes_on.wait(10)
        ends.set()
        return 1

    async def give_up() -> None:
        given_up, left = in_daemon_thread(work, "x"), in_daemon_thread(work, "x")
        given_up.cancel()
        goes_on.set()
        assert await left == 1
        goes_on.clear()
        ends.clear()
        in_daemon_thread(work, "outlives")
        loops.append(asyncio.get_running_loop())

    asyncio.run(give_up())
    assert loops[0].is_closed()
    goes_on.set()
    assert ends.wait(5)
    for thread in threading.enumerate():
        if thread.name == "outlives":
            thread.join(5)  # an error in it would be one of the test
