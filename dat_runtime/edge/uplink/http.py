"""Alerts, visuals and status over HTTP/1.1, as `docs/wire.md` has it: CloudEvents and tus 1.0.0."""

import json
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from urllib.parse import quote

from dat_runtime.alert import BATCH_CONTENT_TYPE, CONTENT_TYPE
from dat_runtime.edge.uplink.connection import Address, ClosedError, Connection, Response
from dat_runtime.edge.uplink.names import Names
from dat_runtime.edge.uplink.pool import Pool
from dat_runtime.edge.uplink.replies import REFUSED, object_in, require_served
from dat_runtime.edge.uplink.sender import (
    Answer,
    OutgoingAlert,
    OutgoingVisual,
    Pieces,
    Progress,
    SendError,
    nothing,
    together,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.trust import require_safe, tls_context, token_in
from dat_runtime.edge.uplink.tus import Headers, Uploads

CONNECT_SECONDS = 2.0
ALERT_SECONDS = 10.0
"""For an alert and its answer, and as much again for each `SLOWEST` bytes."""

SLOWEST = 2_000
"""Bytes per second below which a path does not serve."""

_PACKED = ("content-encoding", "deflate")
_HEAD_BYTES = 180
"""Of a request beside its body, about: what is before it, and the packet's own."""


class HttpSender:
    """One receiver over HTTP/1.1.

    Raises:
        ConfigError: the address cannot be used, or a file of the settings cannot be read.
    """

    def __init__(self, settings: UplinkSettings, node: str):
        require_safe(settings)
        self._node = node
        self._token_file = settings.token_file
        self._authorization()  # a token that cannot be used is said at once
        tls = tls_context(settings) if settings.url.startswith("https://") else None
        self._address = Address.of(settings.url, tls)
        self._names = Names(self._address.host)
        # An alert that may be lost has a copy; on a link that falls each would go twice otherwise.
        self._alerts = Pool(partial(self._open, quick=False), spare=True)
        self._visuals = Pool(self._open, spare=True)
        self._uploads = Uploads(self._visuals, self._address, self._authorization)
        self._packs = False
        """Whether the receiver has said that it takes packed bodies (RFC 7694)."""

    async def _open(self, *, quick: bool = True) -> Connection:
        return await Connection.open(self._address, self._names, CONNECT_SECONDS, quick=quick)

    async def send_alerts(
        self, alerts: Sequence[OutgoingAlert], written: Callable[[], None] = nothing
    ) -> Sequence[Answer]:
        if len(alerts) == 1:
            return [await self._send_alert(alerts[0], written)]
        response = await self._post_events(_body(alerts), BATCH_CONTENT_TYPE, written)
        if response.status in (400, 413, 422):
            # Nothing was stored because of one of them, or all are too many: each goes alone.
            return [await self._send_alert(alert) for alert in alerts]
        require_served(response, 200, 201, 409)
        return _answers(alerts, response)

    def alert_bytes(self, alerts: Sequence[OutgoingAlert]) -> int:
        return _HEAD_BYTES + len(self._wrapped(_body(alerts))[0])

    async def _send_alert(
        self, alert: OutgoingAlert, written: Callable[[], None] = nothing
    ) -> Answer:
        response = await self._post_events(alert.json, CONTENT_TYPE, written)
        if response.status in REFUSED:
            return Answer(False, f"{response.status}: {response.text}")
        require_served(response, 200, 201)
        # A hotspot's login page answers 200 too: only the receiver names the event.
        if object_in(response).get("id") != alert.id:
            raise SendError(f"the answer is not a receiver's: {response.text[:80]!r}")
        return Answer(True)

    async def _post_events(
        self, body: bytes, content_type: str, written: Callable[[], None]
    ) -> Response:
        timeout = ALERT_SECONDS + len(body) / SLOWEST
        return await self._alert_lane("POST", "/v1/events", content_type, body, timeout, written)

    async def send_status(self, status: bytes) -> None:
        target = f"/v1/nodes/{quote(self._node)}"
        kind = "application/json"
        response = await self._alert_lane("PUT", target, kind, status, ALERT_SECONDS)
        # A receiver may have no such page: only `POST /v1/events` is asked of each.
        require_served(response, 200, 201, 204, 404, 405)

    async def _alert_lane(
        self,
        method: str,
        target: str,
        content_type: str,
        body: bytes,
        timeout: float,
        written: Callable[[], None] = nothing,
    ) -> Response:
        """One request, packed where the receiver takes that; as it is if it was refused so."""
        wrapped, coding = self._wrapped(body)
        kind = [("content-type", content_type)]
        response = await self._request(method, target, [*kind, *coding], wrapped, timeout, written)
        if coding and response.status in REFUSED and not _takes_packed(response):
            # Another receiver may stand there now. One that takes it refuses the alert itself.
            self._packs = False
            response = await self._request(method, target, kind, body, timeout, written)
        self._packs |= _takes_packed(response)
        return response

    def _wrapped(self, body: bytes) -> tuple[bytes, Headers]:
        """A body as it is sent, and the headers that say so. On a slow link its bytes are time."""
        packed = zlib.compress(body) if self._packs else body
        is_less = len(packed) + sum(map(len, _PACKED)) < len(body)
        return (packed, [_PACKED]) if is_less else (body, [])

    async def _request(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        timeout: float,
        written: Callable[[], None],
    ) -> Response:
        """Once more at once where the receiver had closed the connection meanwhile."""

        def request(connection: Connection) -> Awaitable[Response]:
            every = [*self._authorization(), *headers]
            return connection.request(method, target, every, body, timeout, written)

        async with self._alerts.connection() as connection:
            try:
                return await request(connection)
            except ClosedError:
                if not connection.was_idle:
                    raise
        async with self._alerts.connection(fresh=True) as connection:
            return await request(connection)

    async def send_visual(self, visual: OutgoingVisual, pieces: Pieces) -> int:
        return await self._uploads.send(visual, pieces)

    def _authorization(self) -> Headers:
        # Read anew: a token can be changed while the node runs and its connections stay open.
        token = token_in(self._token_file)
        return [("authorization", f"Bearer {token}")] if token else []

    def progress(self) -> Progress:
        return together([self._alerts.progress(), self._visuals.progress()])

    async def close(self) -> None:
        await self._alerts.close()
        await self._visuals.close()


def _takes_packed(response: Response) -> bool:
    return "deflate" in response.headers.get("accept-encoding", "")


def _body(alerts: Sequence[OutgoingAlert]) -> bytes:
    """One alert as it is; several as a batch."""
    if len(alerts) == 1:
        return alerts[0].json
    return b"[" + b",".join(alert.json for alert in alerts) + b"]"


def _answers(alerts: Sequence[OutgoingAlert], response: Response) -> list[Answer]:
    """What became of each alert of a batch, which may be in any order."""
    events = object_in(response).get("events")
    told = (
        {e.get("id"): e for e in events if isinstance(e, dict)} if isinstance(events, list) else {}
    )
    answers = []
    for alert in alerts:
        if alert.id not in told:
            raise SendError(f"the answer names no event {alert.id}: {response.text[:80]!r}")
        status = told[alert.id].get("status")
        refused = status in (409, "conflict")
        answers.append(Answer(not refused, json.dumps(told[alert.id])[:300] if refused else ""))
    return answers
