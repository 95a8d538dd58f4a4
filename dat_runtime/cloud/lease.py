"""One of several workers does a thing: whoever holds its lease, a row that has to be renewed.

The lease is a matter of thrift and order, not of safety: after a machine that stopped in the middle
of its work, or with clocks that disagree, two may do the same thing for a while.
"""

import secrets
import time

from sqlalchemy import Column, Connection, Double, Table, Text, insert, select, update

from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import metadata

SECONDS = 30.0
"""How long a lease lasts; whoever holds it renews it at a third of that."""

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
        self._holder = secrets.token_hex(8)
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

    def _take(self, connection: Connection) -> bool:
        now = time.time()
        holder, until = self._holder, now + SECONDS
        row = connection.execute(select(leases).where(leases.c.name == self._name)).one_or_none()
        if row is None:
            new = insert(leases).values(name=self._name, holder=holder, until=until)
            connection.execute(new)
            return True
        # One that lasts longer than any does was written by a clock that has been set back.
        if row.holder != holder and now < row.until <= now + 2 * SECONDS:
            return False
        ours = update(leases).where(leases.c.name == self._name)
        connection.execute(ours.values(holder=holder, until=until))
        return True
