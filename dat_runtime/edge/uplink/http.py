"""Alerts, visuals and status over HTTP/1.1, as `docs/wire.md` has it: CloudEvents and tus 1.0.0."""

import base64
import contextlib
import ipaddress
import json
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from dat_runtime.alert import BATCH_CONTENT_TYPE, CONTENT_TYPE
from dat_runtime.edge.uplink.connection import Address, ClosedError, Connection, Response
from dat_runtime.edge.uplink.names import Names
from dat_runtime.edge.uplink.pool import Pool
from dat_runtime.edge.uplink.sender import (
    AccessError,
    Answer,
    BusyError,
    OutgoingAlert,
    OutgoingVisual,
    Pieces,
    Progress,
    RefusedError,
    SendError,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.errors import ConfigError
from dat_runtime.files import parse, read_text

ALERT_CONNECTIONS = 4
"""At once: an alert does not wait for the answer to an earlier one, a round trip away."""

VISUAL_CONNECTIONS = 8
"""At once: the next visual starts while the answers to earlier ones are under way."""

CONNECT_SECONDS = 2.0
ALERT_SECONDS = 10.0
"""For an alert and its answer, and as much again for each `SLOWEST` bytes."""

VISUAL_SECONDS = 40.0
"""For a part of a visual and its answer; the lanes end a part long before."""

SLOWEST = 2_000
"""Bytes per second below which a path does not serve."""

MAX_RETRY_AFTER = 600.0
REMEMBERED_UPLOADS = 1_000

_REFUSED = frozenset({400, 409, 413, 415, 422})
"""The receiver will not take this one, however often it is sent."""

_TUS = ("tus-resumable", "1.0.0")
_OFFSET_TYPE = ("content-type", "application/offset+octet-stream")


@dataclass
class _Upload:
    """Where a visual lies at the receiver; `offset` is `None` when it has to be asked."""

    location: str
    offset: int | None


class HttpSender:
    """One receiver over HTTP/1.1.

    Raises:
        ConfigError: the address cannot be used, or a file of the settings cannot be read.
    """

    def __init__(self, settings: UplinkSettings, node: str):
        require_safe(settings)
        self._settings = settings
        self._node = node
        tls = tls_context(settings) if settings.url.startswith("https://") else None
        self._address = Address.of(settings.url, tls)
        self._names = Names(self._address.host)
        self._token = _token(settings.token_file)
        self._alerts = Pool(self._open, ALERT_CONNECTIONS, spare=True)
        self._visuals = Pool(self._open, VISUAL_CONNECTIONS)
        self._uploads: OrderedDict[tuple[str, str], _Upload] = OrderedDict()

    async def _open(self) -> Connection:
        # Read anew, so that a token can be changed while the node runs.
        self._token = _token(self._settings.token_file)
        return await Connection.open(self._address, self._names, CONNECT_SECONDS)

    async def send_alerts(self, alerts: Sequence[OutgoingAlert]) -> Sequence[Answer]:
        if len(alerts) == 1:
            return [await self._send_alert(alerts[0])]
        body = b"[" + b",".join(alert.json for alert in alerts) + b"]"
        response = await self._post_events(body, BATCH_CONTENT_TYPE)
        if response.status in (400, 413, 422):
            # Nothing was stored because of one of them, or all are too many: each goes alone.
            return [await self._send_alert(alert) for alert in alerts]
        _require_served(response, 200, 201, 409)
        return _answers(alerts, response)

    async def _send_alert(self, alert: OutgoingAlert) -> Answer:
        response = await self._post_events(alert.json, CONTENT_TYPE)
        if response.status in _REFUSED:
            return Answer(False, f"{response.status}: {response.text}")
        _require_served(response, 200, 201)
        # A hotspot's login page answers 200 too: only the receiver names the event.
        if _object(response).get("id") != alert.id:
            raise SendError(f"the answer is not a receiver's: {response.text[:80]!r}")
        return Answer(True)

    async def _post_events(self, body: bytes, content_type: str) -> Response:
        headers = [*self._authorization(), ("content-type", content_type)]
        timeout = ALERT_SECONDS + len(body) / SLOWEST
        return await self._alert_lane("POST", "/v1/events", headers, body, timeout)

    async def send_status(self, status: bytes) -> None:
        headers = [*self._authorization(), ("content-type", "application/json")]
        target = f"/v1/nodes/{quote(self._node)}"
        response = await self._alert_lane("PUT", target, headers, status, ALERT_SECONDS)
        # A receiver may have no such page: only `POST /v1/events` is asked of each.
        _require_served(response, 200, 201, 204, 404, 405)

    async def _alert_lane(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes, timeout: float
    ) -> Response:
        """One request; once more at once where the receiver had closed the connection meanwhile."""
        async with self._alerts.connection() as connection:
            used = connection.requests > 0
            try:
                return await connection.request(method, target, headers, body, timeout)
            except ClosedError:
                if not used:
                    raise
        async with self._alerts.connection(fresh=True) as connection:
            return await connection.request(method, target, headers, body, timeout)

    async def send_visual(self, visual: OutgoingVisual, pieces: Pieces) -> int:
        key = visual.event_id, visual.kind
        upload = self._uploads.get(key)
        async with self._visuals.connection() as connection:
            if upload is None and not visual.begun:
                return await self._create(connection, visual, pieces(0))
            if upload is None:
                # Creating it again tells where it lies and how much of it is there.
                offset = await self._create(connection, visual, b"")
                upload = self._uploads[key]
            elif upload.offset is None:
                offset = await self._offset(connection, key, upload)
            else:
                offset = upload.offset
            if offset >= visual.size:
                return self._arrived(key, visual.size, offset)
            return await self._continue(connection, visual, upload, offset, pieces(offset))

    async def _create(
        self, connection: Connection, visual: OutgoingVisual, body: bytes | AsyncIterator[bytes]
    ) -> int:
        """Creation, with upload where there is a body: how much of the visual is there."""
        metadata = f"event {_base64(visual.event_id)},kind {_base64(visual.kind)}"
        headers = [
            *self._authorization(),
            _TUS,
            ("upload-length", str(visual.size)),
            ("upload-metadata", metadata),
        ]
        if not isinstance(body, bytes):
            headers.append(_OFFSET_TYPE)
        response = await connection.request("POST", "/v1/visuals", headers, body, VISUAL_SECONDS)
        if response.status in _REFUSED or response.status in (404, 410):
            raise RefusedError(f"{response.status}: {response.text}")
        _require_served(response, 200, 201)
        key = visual.event_id, visual.kind
        offset = _offset_in(response) or 0
        self._uploads[key] = _Upload(self._path_of(response), offset)
        if len(self._uploads) > REMEMBERED_UPLOADS:
            self._uploads.popitem(last=False)
        return self._arrived(key, visual.size, offset)

    async def _offset(self, connection: Connection, key: tuple[str, str], upload: _Upload) -> int:
        headers = [*self._authorization(), _TUS]
        response = await connection.request("HEAD", upload.location, headers, b"", ALERT_SECONDS)
        if response.status in (404, 410):
            del self._uploads[key]
        _require_served(response, 200, 204)
        offset = _offset_in(response)
        if offset is None:
            raise SendError("the receiver does not say how much of a visual it has")
        return offset

    async def _continue(
        self,
        connection: Connection,
        visual: OutgoingVisual,
        upload: _Upload,
        offset: int,
        body: AsyncIterator[bytes],
    ) -> int:
        key = visual.event_id, visual.kind
        upload.offset = None  # not known again until the receiver has answered
        headers = [
            *self._authorization(),
            _TUS,
            _OFFSET_TYPE,
            ("upload-offset", str(offset)),
        ]
        response = await connection.request("PATCH", upload.location, headers, body, VISUAL_SECONDS)
        if response.status in (404, 410):
            del self._uploads[key]
        elif response.status in _REFUSED - {409}:
            raise RefusedError(f"{response.status}: {response.text}")
        _require_served(response, 200, 204)
        upload.offset = _offset_in(response)
        return self._arrived(key, visual.size, upload.offset or 0)

    def _arrived(self, key: tuple[str, str], size: int, offset: int) -> int:
        if offset >= size:
            self._uploads.pop(key, None)
        return offset

    def _path_of(self, response: Response) -> str:
        """The path of `Location` below the address; nothing is sent to another host."""
        base = f"{self._address.prefix}/v1/visuals"
        parts = urlsplit(urljoin(base, response.headers.get("location", "")))
        if not parts.path.startswith(f"{base}/"):
            raise SendError("the receiver does not say where a visual lies")
        return parts.path.removeprefix(self._address.prefix)

    def _authorization(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._token}")] if self._token else []

    def progress(self) -> Progress:
        first, second = self._alerts.progress(), self._visuals.progress()
        trips = [p.round_trip for p in (first, second) if p.round_trip is not None]
        return Progress(
            first.acknowledged + second.acknowledged,
            first.in_flight + second.in_flight,
            min(trips, default=None),
        )

    async def close(self) -> None:
        await self._alerts.close()
        await self._visuals.close()


def require_safe(settings: UplinkSettings) -> None:
    """Raises:
    ConfigError: the address is none, or the token would travel unencrypted.
    """
    parts = urlsplit(settings.url)
    try:
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    plain = parts.username is None and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not (parts.hostname and port_is_valid and plain):
        raise ConfigError(f"{settings.url!r} is no address such as https://alerts.example")
    if parts.scheme == "http" and settings.token_file and not _is_loopback(parts.hostname):
        raise ConfigError(f"a token goes to https and loopback addresses only: {settings.url}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(settings: UplinkSettings) -> ssl.SSLContext:
    """Raises:
    ConfigError: a certificate cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.authorities)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate)
    except (OSError, ssl.SSLError) as error:
        file = settings.certificate or settings.authorities
        raise ConfigError(f"holds no certificate that can be used ({error})", file) from None
    return context


def _token(file: Path | None) -> str:
    if file is None:
        return ""
    token = read_text(file, ConfigError, missing="it holds the node's token").strip()
    if not (token and token.isascii() and token.isprintable()):
        raise ConfigError("holds no token: one line of printable ASCII", file)
    return token


def _require_served(response: Response, *statuses: int) -> None:
    """Raises:
    AccessError: the receiver does not know this node.
    BusyError: the response has none of the statuses.
    """
    if response.status in statuses:
        return
    if response.status in (401, 403):
        raise AccessError(f"the receiver refuses this node ({response.status}: {response.text})")
    raise BusyError(f"status {response.status}: {response.text}", _retry_after(response))


def _retry_after(response: Response) -> float | None:
    """Seconds, at most `MAX_RETRY_AFTER`; a date counts from the receiver's own clock."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        until = parsedate_to_datetime(text)
        since = parsedate_to_datetime(response.headers["date"])
        return min(max(0.0, (until - since).total_seconds()), MAX_RETRY_AFTER)
    return None


def _object(response: Response) -> dict[str, object]:
    """The JSON object in a response; an empty one where there is none."""
    try:
        value = parse(response.body.decode("utf-8"))
    except (UnicodeDecodeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _answers(alerts: Sequence[OutgoingAlert], response: Response) -> list[Answer]:
    """What became of each alert of a batch, which may be in any order."""
    events = _object(response).get("events")
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


def _offset_in(response: Response) -> int | None:
    text = response.headers.get("upload-offset", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
