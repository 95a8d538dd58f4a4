"""The addresses of a host: looked up in a thread that nobody waits for at the end."""

import asyncio
import socket
from collections.abc import Callable

from dat_runtime.edge.uplink.sender import SendError
from dat_runtime.network import in_daemon_thread

LOOKUP_SECONDS = 1.0
"""After which the addresses that were found last are used, where there are any."""


def addresses_of(host: str) -> list[str]:
    """The addresses of a host, each once, in the system's order.

    Raises:
        OSError, UnicodeError: there are none.
    """
    rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class Names:
    """One host. A look-up may hang for half a minute while the network is away."""

    def __init__(self, host: str, look_up: Callable[[str], list[str]] | None = None):
        self._host = host
        self._look_up = look_up or addresses_of
        self._lookup: asyncio.Future[list[str]] | None = None
        self._known: list[str] = []
        self._turn = 0

    async def address(self) -> str:
        """An address to connect to: the next one after `failed`.

        Raises:
            SendError: none is known.
        """
        if self._lookup is None:
            self._lookup = in_daemon_thread(self._found, "look-up")
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                self._known = await asyncio.shield(self._lookup)
            self._lookup = None
        except TimeoutError:  # it goes on, and serves the next who asks
            if not self._known:
                raise SendError(f"no address of {self._host} in {LOOKUP_SECONDS:g} s") from None
        except OSError as error:
            self._lookup = None
            if not self._known:
                raise SendError(f"no address of {self._host} ({error})") from None
        return self._at_turn

    def _found(self) -> list[str]:
        try:
            return self._look_up(self._host)
        except (OSError, UnicodeError) as error:
            # Of one kind: a system's TimeoutError would pass for our own.
            raise OSError(str(error)) from None

    def failed(self, address: str) -> None:
        """The address did not serve: the next one is tried."""
        # Connections that fail together must not go once around.
        if address == self._at_turn:
            self._turn += 1

    @property
    def _at_turn(self) -> str:
        return self._known[self._turn % len(self._known)] if self._known else ""
