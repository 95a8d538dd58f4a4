"""Where an MQTT broker listens, and who we are there."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dat_runtime.errors import ConfigError
from dat_runtime.network import client_tls, is_loopback


@dataclass(frozen=True)
class Broker:
    """Where a broker listens, and who we are there.

    Attributes:
        user, password: as the broker knows us; `None` when the certificate says it, or nobody asks.
        certificate: PEM file with our certificate and its key (mutual TLS).
        authorities: PEM file of the authorities to trust; `None` trusts the system's.
    """

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None
    certificate: Path | None = None
    authorities: Path | None = None

    @classmethod
    def of(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        certificate: Path | None = None,
        authorities: Path | None = None,
    ) -> "Broker":
        """The broker at `mqtt://[USER@]HOST[:PORT]` or `mqtts://...`; the URL's user goes first.

        Raises:
            ConfigError: the address is none, or a password would travel unencrypted.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
            raise ConfigError(f"{_shown(url)}: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
        if parts.password is not None or parts.path not in ("", "/") or parts.query:
            raise ConfigError(
                f"{_shown(url)}: a broker's address ends with its port; the password"
                " stands in a file"
            )
        tls = parts.scheme == "mqtts"
        if password is not None and not tls and not is_loopback(parts.hostname):
            raise ConfigError(f"{_shown(url)}: a password goes to mqtts:// and loopback only")
        return cls(
            parts.hostname,
            port or (8883 if tls else 1883),
            tls,
            unquote(parts.username) if parts.username else user,
            password,
            certificate,
            authorities,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def _shown(url: str) -> str:
    """The address without what may be a secret."""
    return repr(url.rpartition("@")[2][:80])


def tls_of(broker: Broker) -> ssl.SSLContext:
    """How to encrypt, whom to trust, and our certificate.

    Raises:
        ConfigError: a certificate cannot be read.
    """
    try:
        return client_tls(broker.authorities, broker.certificate)
    except OSError as error:
        raise ConfigError(f"{broker}: a certificate cannot be read ({error})") from None
