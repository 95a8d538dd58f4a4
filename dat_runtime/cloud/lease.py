"""Work that goes on beside requests: for ever, and by one of several workers.

The one is who holds the lease, a row that has to be renewed. It is a matter of thrift and order,
not of safety: after a machine that stopped in the middle of its work, or with clocks that disagree,
two may do the same thing for a while.
"""

import asyncio
import itertools
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sqlalchemy import Column, Connection, Double, Table, Text, delete, insert, select, update

from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import metadata
from dat_runtime.errors import DatError

log = logging.getLogger("dat_runtime.cloud")

SECONDS = 30.0
"""How long a lease lasts that nobody renews; whoever holds it does so at a third of that."""

LOOK_EVERY = 5.0
"""Seconds before a lease that another holds is looked at again."""

AFTER_TROUBLE = 5.0
"""Seconds before a step that failed is taken again."""

_HOST = re.sub(r"\s", "-", socket.gethostname())
_PROCESS = secrets.token_hex(8)
_COUNT = itertools.count()

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Double, nullable=False),
)


class Lease:
    """A lease by name, for one worker."""

    def __init__(self, store: Store, name: str):
        self._store = store
        self._name = name
        self._holder = f"{_HOST} {os.getpid()} {_PROCESS} {next(_COUNT)}"
        self._renew_at = 0.0

    async def held(self) -> bool:
        """Take the lease if it is free, renew it if it is ours; whether it is.

        Raises:
            StoreError: the store keeps nothing at the moment.
        """
        if time.monotonic() < self._renew_at:
            return True
        mine = await self._store.write(self._take)
        self._renew_at = time.monotonic() + SECONDS / 3 if mine else 0.0
        return mine

    async def give_back(self) -> None:
        """Let another take it at once.

        Raises:
            StoreError: the store keeps nothing; the lease ends by itself.
        """
        mine = (leases.c.name == self._name) & (leases.c.holder == self._holder)
        await self._store.write(lambda connection: connection.execute(delete(leases).where(mine)))

    def _take(self, connection: Connection) -> bool:
        now = time.time()
        holder, until = self._holder, now + SECONDS
        row = connection.execute(select(leases).where(leases.c.name == self._name)).one_or_none()
        if row is None:
            new = insert(leases).values(name=self._name, holder=holder, until=until)
            connection.execute(new)
            return True
        # One that lasts longer than any does was written by a clock that has been set back.
        lasts = now < row.until <= now + 2 * SECONDS
        if row.holder != holder and lasts and not _is_gone(row.holder):
            return False
        ours = update(leases).where(leases.c.name == self._name)
        connection.execute(ours.values(holder=holder, until=until))
        return True


def _is_gone(holder: str) -> bool:
    """Whether it was a process of this machine that has ended: then nobody has to wait for it."""
    host, number, process, _ = holder.split(" ")
    if host != _HOST or process == _PROCESS:
        return False
    if int(number) == os.getpid():  # as in a container, where each process is the first
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


async def forever(what: str, lease: Lease, step: Callable[[], Awaitable[float]]) -> None:
    """Take a step again and again while the lease is ours; each says when the next one is due.

    Neither a store that keeps nothing nor a defect ends it: the one is told once, the other with
    its traceback each time. At its own end it gives the lease back.
    """
    trouble = ""
    try:
        while True:
            try:
                pause = await step() if await lease.held() else LOOK_EVERY
                if trouble:
                    log.warning("%s: goes on", what)
                trouble = ""
            except (DatError, OSError) as error:
                if not trouble:
                    log.warning("%s: %s", what, error)
                trouble, pause = str(error) or "failed", AFTER_TROUBLE
            except Exception:
                log.exception("%s: a defect", what)
                pause = AFTER_TROUBLE
            await asyncio.sleep(pause)
    finally:
        with suppress(DatError):
            await lease.give_back()
