"""What node and receiver agree on about other machines: which one is this, whom TLS trusts, and
that nobody waits for a name."""

import asyncio
import contextlib
import ipaddress
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_tls(authorities: Path | None, certificate: Path | None) -> ssl.SSLContext:
    """How a client encrypts: whom it trusts, and its own certificate with its key.

    Args:
        authorities: PEM file; `None` trusts the system's.
        certificate: PEM file; `None` shows none.

    Raises:
        OSError: one of them cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context(cafile=authorities)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def in_daemon_thread(work: Callable[[], T], name: str) -> "asyncio.Future[T]":
    """What `work` comes to, in a thread that nobody waits for at the end.

    The look-up of a name may hang for half a minute while the network is away, and cannot be broken
    off. asyncio's own threads would pile up in a pool, and hold up the end of the process.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, failure: Exception | None) -> None:
        if ended.done():
            return
        if failure is None:
            ended.set_result(cast(T, result))
        else:
            ended.set_exception(failure)
            ended.exception()  # it may be that nobody asks any more

    def run(settle: Callable[[T | None, Exception | None], None]) -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # whoever waits is to see it, whatever it is
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failure)
        # An error holds this frame, which is not to hold it: what failed would stay open.
        del settle, failure

    threading.Thread(target=run, args=(settle,), name=name, daemon=True).start()
    return ended
