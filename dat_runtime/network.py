"""What node and receiver agree on about other machines: what is this one, and whom TLS trusts."""

import ipaddress
import ssl
from pathlib import Path


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
