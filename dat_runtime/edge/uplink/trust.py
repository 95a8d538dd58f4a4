"""What an uplink trusts, and what it may tell whom: addresses, tokens, certificates."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_text
from dat_runtime.network import client_tls, is_loopback


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
        # The whole address may hold a password.
        name = f"{parts.scheme}://{parts.hostname or ''}"
        raise ConfigError(
            f"{name}... is no address such as https://alerts.example: a host, a port and a path; "
            "no user, password or question, and the token has a file of its own"
        )
    if parts.scheme == "http" and settings.token_file and not is_loopback(parts.hostname):
        raise ConfigError(
            f"a token goes to https and loopback addresses only, not to http://{parts.hostname}"
        )


def tls_context(settings: UplinkSettings) -> ssl.SSLContext:
    """Raises:
    ConfigError: a certificate cannot be read.
    """
    try:
        return client_tls(settings.authorities, settings.certificate)
    except OSError as error:
        file = settings.certificate or settings.authorities
        raise ConfigError(f"holds no certificate that can be used ({error})", file) from None


def token_in(file: Path | None) -> str:
    if file is None:
        return ""
    token = read_text(file, ConfigError, missing="it holds the node's token").strip()
    if not (token and token.isascii() and token.isprintable()):
        raise ConfigError("holds no token: one line of printable ASCII", file)
    return token
