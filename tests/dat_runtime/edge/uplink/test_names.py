import asyncio
import threading

import pytest

from dat_runtime.edge.uplink import names as module
from dat_runtime.edge.uplink.names import Names, addresses_of
from dat_runtime.edge.uplink.sender import SendError


def test_the_addresses_of_a_host_are_tried_in_turn():
    async def ask():
        names = Names("localhost")
        seen = []
        for _ in range(4):
            seen.append(await names.address())
            names.failed(seen[-1])
        return seen

    seen = asyncio.run(ask())
    assert set(seen) <= {"127.0.0.1", "::1"}
    assert seen[:2] == seen[2:] or len(set(seen)) == 1


def test_connections_that_fail_together_do_not_bring_the_same_address_again():
    async def ask():
        names = Names("a.example", lambda host: ["2001:db8::1", "192.0.2.7"])
        first = [await names.address() for _ in range(2)]
        for address in first:
            names.failed(address)
        return [*first, await names.address()]

    assert asyncio.run(ask()) == ["2001:db8::1", "2001:db8::1", "192.0.2.7"]


def test_an_address_needs_no_name():
    assert asyncio.run(Names("192.0.2.7").address()) == "192.0.2.7"


@pytest.mark.parametrize("host", ["a" * 300, "x..y", "no-such-host.invalid"])
def test_a_name_that_cannot_be_found_is_an_error(host):
    with pytest.raises(SendError, match="no address of"):
        asyncio.run(Names(host).address())


def test_what_was_found_serves_while_names_cannot_be_looked_up():
    answers = [["192.0.2.7"], OSError("no network"), None, ["192.0.2.8"]]
    end = threading.Event()

    def look_up(host):
        answer = answers.pop(0)
        if answer is None:  # it hangs
            end.wait(20)
            return ["192.0.2.9"]
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def ask():
        names = Names("a.example", look_up)
        return [await names.address() for _ in range(3)]

    assert asyncio.run(ask()) == ["192.0.2.7"] * 3
    end.set()


def test_an_address_is_listed_once():
    assert addresses_of("192.0.2.7") == ["192.0.2.7"]


def test_only_the_address_at_turn_gives_way():
    async def ask():
        names = Names("a.example", lambda host: ["192.0.2.1", "192.0.2.2", "192.0.2.3"])
        seen = []
        for failed in ("192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.3"):
            seen.append(await names.address())
            names.failed(failed)
        return [*seen, await names.address()]

    turns = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"]
    assert asyncio.run(ask()) == turns


def test_a_look_up_that_hangs_goes_on_and_serves_the_next_who_asks(monkeypatch):
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.05)
    end, hosts = threading.Event(), []

    def look_up(host):
        hosts.append((host, threading.current_thread().daemon, threading.current_thread().name))
        end.wait(20)
        return ["192.0.2.7"]

    async def ask():
        names = Names("a.example", look_up)
        for _ in range(2):
            with pytest.raises(SendError, match=r"^no address of a\.example in 0\.05 s$"):
                await names.address()
        end.set()
        monkeypatch.setattr(module, "LOOKUP_SECONDS", 5)
        return await names.address()

    assert asyncio.run(ask()) == "192.0.2.7"
    assert hosts == [("a.example", True, "look-up")]


def test_a_look_up_that_failed_is_told_and_made_again():
    answers = [OSError("no network"), UnicodeError("no name"), TimeoutError("late"), ["192.0.2.7"]]

    def look_up(host):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask():
        names = Names("a.example", look_up)
        for words in ("no network", "no name", "late"):
            with pytest.raises(SendError, match=rf"^no address of a\.example \({words}\)$"):
                await names.address()
        return await names.address()

    assert asyncio.run(ask()) == "192.0.2.7"
