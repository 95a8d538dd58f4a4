"""Who may do what: tokens by node, operators, and a receiver on loopback that is open to all."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request

from dat_runtime.alert import NAME
from dat_runtime.errors import ConfigError

COOKIE = "dat_token"
"""Holds the token of a browser; `POST /v1/session` sets it."""

OPERATOR = "operator"


@dataclass(frozen=True)
class Who:
    """Who speaks.

    Attributes:
        name: of the node, "operator", "operator:NAME", or "" on a receiver without tokens.
        node: the only node whose events they may touch; `None` for all nodes.
        reviews: whether they may review what they may read.
        sends: whether they may send alerts and visuals.
    """

    name: str
    node: str | None
    reviews: bool
    sends: bool

    def require_node(self, node: str, to: str = "send") -> None:
        """Raises:
        HTTPException: 403, they may not speak for `node`.
        """
        if to == "send" and not self.sends:
            raise HTTPException(403, f"{self.name} may read and review, and sends nothing")
        if self.node is not None and self.node != node:
            raise HTTPException(403, f"this token is of node {self.node}, not of {node}")

    def require_review(self) -> None:
        """Raises:
        HTTPException: 403, they may not review.
        """
        if not self.reviews:
            raise HTTPException(403, f"{self.name} may not review: operators do")


ANYONE = Who("", None, reviews=True, sends=True)
"""On loopback, without tokens."""


class Access:
    """The tokens of a receiver; without a file everyone is `ANYONE`.

    Raises:
        ConfigError: the file cannot be read, or a line of it is wrong.
    """

    def __init__(self, file: Path | None):
        self.file = file
        self._known: dict[bytes, Who] = {} if file is None else read_tokens(file)

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return self.file is None

    def who(self, request: Request) -> Who:
        """Who sent the request, by bearer token or by the page's cookie.

        Raises:
            HTTPException: 401, no token or one that is not known.
        """
        if self.file is None:
            return ANYONE
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = request.cookies.get(COOKIE, "")
        who = self.of(token.strip())
        if who is None:
            raise HTTPException(401, "a known token is needed", {"WWW-Authenticate": "Bearer"})
        return who

    node = who

    def of(self, token: str) -> Who | None:
        """Whose token it is."""
        digest = hashlib.sha256(token.encode()).digest()
        for known, who in self._known.items():
            if hmac.compare_digest(known, digest):
                return who
        return None


def read_tokens(file: Path) -> dict[bytes, Who]:
    """Digest of each token -> whose it is."""
    nodes = [line.split("\t") for line in file.read_text("utf-8").splitlines() if line.strip()]
    has_operator = any(name.partition(":")[0] == OPERATOR for name, _ in nodes)
    known = {}
    for name, token in nodes:
        operates = name.partition(":")[0] == OPERATOR
        if not operates and not NAME.holds(name):
            raise ConfigError(f"{name!r} is not {NAME.expected}", file)
        who = Who(name, None if operates else name, operates or not has_operator, not operates)
        known[hashlib.sha256(token.encode()).digest()] = who
    return known
