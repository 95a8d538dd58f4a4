"""A thin link on loopback: a proxy that lets so many bytes a second through, after a delay."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 2048
"""Bytes that are let through at a time."""


class _Bucket:
    """When the next bytes may pass: all connections share one link."""

    def __init__(self, bytes_per_s: float):
        self._rate = bytes_per_s
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(self._free_at - now)


@contextmanager
def thin_link(port: int, bytes_per_s: float, delay: float) -> Iterator[int]:
    """A link to a port of loopback, while the context lasts; the port of its near end.

    Args:
        bytes_per_s: towards `port`, for all connections together. The way back is free.
        delay: seconds on each way.
    """
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    ports: list[int] = []
    stop = asyncio.Event()

    async def serve() -> None:
        bucket = _Bucket(bytes_per_s)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers = [writer]
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                writers.append(far_writer)
                await asyncio.gather(
                    _carry(reader, far_writer, bucket, delay),
                    _carry(far_reader, writer, None, delay),
                )
            except OSError:
                pass  # an end went away: so does the other
            finally:
                for one in writers:
                    one.close()  # after what is still to go out

        # A small buffer before the link: what is sent and not yet through waits at the sender.
        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=CHUNK)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        server.close()

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # in which their connections are closed

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_until_complete(end())
        loop.close()

    thread = threading.Thread(target=run, name="thin-link", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bucket: _Bucket | None, delay: float
) -> None:
    """What comes in goes out, later; the end too."""
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def take_in() -> None:
        content = b"-"
        while content:
            try:
                content = await reader.read(CHUNK)
            except OSError:
                content = b""
            if content and bucket is not None:
                await bucket.take(len(content))
            await queue.put((time.monotonic() + delay, content))

    async def let_out() -> None:
        while True:
            due, content = await queue.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not content:
                break
            writer.write(content)
            await writer.drain()
        writer.write_eof()  # the other way may still carry an answer
        await writer.drain()

    with contextlib.suppress(OSError):
        await asyncio.gather(take_in(), let_out())
