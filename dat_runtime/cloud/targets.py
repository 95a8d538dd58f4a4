"""Where alerts go on to: a webhook, an MQTT broker. A delivery each time, bounded in time.

The addresses are the operator's own configuration: no alert, no node and no answer changes where
anything goes. So a private address is theirs to choose, and a redirect is never followed.
"""

import asyncio
import base64
import hashlib
import hmac
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
from sqlalchemy import Row

from dat_runtime import __version__
from dat_runtime.alert import CONTENT_TYPE
from dat_runtime.broker import Broker
from dat_runtime.cloud.settings import Settings
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_bytes, read_text
from dat_runtime.mqtt import REFUSED, Connection, MqttError
from dat_runtime.retry_after import seconds_asked

AT_ONCE = 8
"""Alerts on their way to one target."""

SECONDS = 10.0
"""For one delivery, from name to answer."""


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery.

    Attributes:
        kind: "delivered"; "refused", this alert will not be taken; "failed", the target takes
            nothing at the moment.
        words: why.
        retry_after: seconds that the target asked to wait.
    """

    kind: str
    words: str = ""
    retry_after: float = 0.0


DELIVERED = Outcome("delivered")


class Target(Protocol):
    """Where alerts go."""

    name: str
    shown: str
    """Its address without secrets."""

    async def deliver(self, row: Row[Any]) -> Outcome:
        """One alert, within `SECONDS`; never raises."""
        ...

    async def close(self) -> None: ...


def targets_of(settings: Settings) -> list[Target]:
    """Raises:
    ConfigError: an address, a secret or a password that will not do.
    """
    targets: list[Target] = []
    if settings.webhook is not None:
        targets.append(Webhook(settings.webhook, settings.webhook_secret))
    if settings.mqtt is not None:
        targets.append(MqttTarget(broker_of(settings, settings.mqtt)))
    return targets


def require_usable(settings: Settings) -> None:
    """See that alerts can go on, and come in by MQTT, as far as the settings say.

    Raises:
        ConfigError: an address, a secret or a password that will not do.
    """
    targets_of(settings)
    if settings.mqtt_in is not None:
        broker_of(settings, settings.mqtt_in)


def broker_of(settings: Settings, url: str) -> Broker:
    """Raises:
    ConfigError: the address or the password will not do.
    """
    password = settings.mqtt_password
    return Broker.of(
        url,
        password=None if password is None else read_text(password, ConfigError).strip(),
        certificate=settings.mqtt_certificate,
        authorities=settings.mqtt_authorities,
    )


class Webhook:
    """An HTTP endpoint that gets each alert as a CloudEvent, signed where there is a secret.

    The signature is that of Standard Webhooks (https://www.standardwebhooks.com).

    Raises:
        ConfigError: no http or https address, or a secret that cannot be read.
    """

    name = "webhook"

    def __init__(self, url: str, secret: Path | None):
        try:
            address = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError):
            address = httpx.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise ConfigError("--webhook is no address such as https://alerts.example/hook")
        self.shown = f"the webhook at {address.host}"
        self._url = address
        self._key = None if secret is None else _key(secret)
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=SECONDS,
            limits=httpx.Limits(max_connections=AT_ONCE),
        )

    async def deliver(self, row: Row[Any]) -> Outcome:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(row)
        except TimeoutError:
            return Outcome("failed", f"no answer in {SECONDS:g} s")
        except (httpx.HTTPError, OSError) as error:
            return Outcome("failed", f"{type(error).__name__}: {error}"[:200])

    async def _post(self, row: Row[Any]) -> Outcome:
        content = row.content.encode()
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"dat-runtime/{__version__}",
            "Accept-Encoding": "identity",
        } | signature(self._key, message_id(row), int(time.time()), content)
        request = self._client.build_request("POST", self._url, content=content, headers=headers)
        response = await self._client.send(request, stream=True)
        try:
            return _outcome(response)
        finally:
            await response.aclose()  # what it says is not read: it may never end

    async def close(self) -> None:
        await self._client.aclose()


def message_id(row: Row[Any]) -> str:
    """The same for each try of the same revision: by it a repetition is known."""
    return f"{row.event}/{row.revision}"


def signature(key: bytes | None, id: str, seconds: int, content: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks; without a key there is no signature."""
    headers = {"webhook-id": id, "webhook-timestamp": str(seconds)}
    if key is not None:
        signed = hmac.digest(key, f"{id}.{seconds}.".encode() + content, hashlib.sha256)
        headers["webhook-signature"] = "v1," + base64.b64encode(signed).decode()
    return headers


def _key(file: Path) -> bytes:
    """A secret as Standard Webhooks writes it, `whsec_` and base64, or any other bytes."""
    secret = read_bytes(file, ConfigError, most_bytes=10_000).strip()
    if secret.startswith(b"whsec_"):
        try:
            secret = base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
        except ValueError:
            raise ConfigError("is no secret: whsec_ is followed by base64", file) from None
    if len(secret) < 16:
        raise ConfigError("is no secret: expected at least 16 bytes", file)
    return secret


_NOT_THIS_ONE = frozenset({400, 413, 415, 422})
"""What an endpoint says of one alert; any other refusal is a fault that an operator can mend."""


def _outcome(response: httpx.Response) -> Outcome:
    status = response.status_code
    if response.is_success:
        return DELIVERED
    if status in _NOT_THIS_ONE:
        return Outcome("refused", f"status {status}")
    if response.is_redirect:
        return Outcome("failed", f"status {status}: redirects are not followed")
    return Outcome("failed", f"status {status}", _retry_after(response.headers))


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds that a target asks for, unbounded; 0 when it does not."""
    return seconds_asked(headers, time.time()) or 0.0


class MqttTarget:
    """A broker; alerts of a node go to `dat-received/NODE/alerts`, as CloudEvents, QoS 1.

    Not to the topics that nodes publish to: a receiver that takes alerts from the same broker
    would hear its own.
    """

    name = "mqtt"

    def __init__(self, broker: Broker):
        self.shown = f"the broker {broker}"
        self._broker = broker
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def deliver(self, row: Row[Any]) -> Outcome:
        try:
            connection = await self._connected()
            topic = f"dat-received/{row.event.partition('/')[0]}/alerts"
            answer = await connection.publish(topic, row.content.encode(), CONTENT_TYPE)
            await connection.accepted(answer)
        except MqttError as error:
            return Outcome("refused" if error.code in REFUSED else "failed", str(error))
        return DELIVERED

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None or self._connection.lost.done():
                await self.close()
                name = f"dat-receiver-out-{random.getrandbits(48):x}"
                self._connection = await Connection.open(self._broker, name)
            return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            ended, self._connection = self._connection, None
            await ended.close()
