"""Who may do what: tokens by node, operators, and a receiver on loopback that is open to all."""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request

from dat_runtime import files
from dat_runtime.alert import NAME
from dat_runtime.errors import ConfigError

log = logging.getLogger("dat_runtime.cloud")

COOKIE = "dat_token"
"""Holds the token of a browser; `POST /v1/session` sets it."""

OPERATOR = "operator"

LOOK_EVERY = 1.0
"""Seconds after which the file of tokens is looked at again."""

MAX_FILE_BYTES = 8_000_000

_HASHED = re.compile(r"sha256:[0-9a-f]{64}")


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

    def require_node(self, node: str) -> None:
        """See that they may send for a node.

        Raises:
            HTTPException: 403, they may not.
        """
        if not self.sends:
            raise HTTPException(403, f"{self.name} reads and reviews, nodes send")
        if self.node is not None and self.node != node:
            raise HTTPException(403, f"this token is of node {self.node}, not of {node}")

    def require_review(self) -> None:
        """See that they may review.

        Raises:
            HTTPException: 403, they may not.
        """
        if not self.reviews:
            raise HTTPException(403, f"{self.name} sends, operators review")


ANYONE = Who("", None, reviews=True, sends=True)
"""On loopback, without tokens."""


class Access:
    """The tokens of a receiver; without a file everyone is `ANYONE`.

    Only digests are held. A file that changed is read again, within `LOOK_EVERY`; while the new one
    is wrong, the old tokens hold.

    Attributes:
        problem: what is wrong with the file; "" when nothing is.

    Raises:
        ConfigError: the file cannot be read, or a line of it is wrong.
    """

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.monotonic):
        self.file = file
        self.problem = ""
        self._clock = clock
        self._looked = clock()
        self._stamp = None if file is None else _stamp(file)
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

    def of(self, token: str) -> Who | None:
        """Whose token it is."""
        self._look_again()
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = None
        # All of them, in the same time whichever it is; a fleet's tokens take microseconds.
        for known, who in self._known.items():
            if hmac.compare_digest(known, digest):
                found = who
        return found

    def _look_again(self) -> None:
        now = self._clock()
        if self.file is None or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        stamp = _stamp(self.file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = read_tokens(self.file)
            self.problem = ""
        except ConfigError as error:
            self.problem = f"the tokens as they were before hold: {error}"
            log.error("%s", self.problem)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Changes when the file does."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def read_tokens(file: Path) -> dict[bytes, Who]:
    """Digest of each token -> whose it is.

    A line is `NODE<TAB>TOKEN`; NODE is `operator` or `operator:NAME` for who reads and reviews all.
    The token may be written as `sha256:` and its digest in hexadecimal. Lines that are empty or
    begin with # say nothing. While no line is an operator's, nodes may review their own events.

    Raises:
        ConfigError: the file cannot be read, a line is wrong, or a token is there twice.
    """
    text = files.read_text(file, ConfigError, most_bytes=MAX_FILE_BYTES)
    lines: list[tuple[str, bytes]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            lines.append(_token(line, file, number))
    if not lines:
        raise ConfigError("has no line NODE<TAB>TOKEN: nobody could send", file)
    has_operator = any(_operates(name) for name, _ in lines)
    known: dict[bytes, Who] = {}
    for name, digest in lines:
        if digest in known:
            raise ConfigError(f"{known[digest].name} and {name} have the same token", file)
        operates = _operates(name)
        known[digest] = Who(
            name=name,
            node=None if operates else name,
            reviews=operates or not has_operator,
            sends=not operates,
        )
    return known


def _operates(name: str) -> bool:
    return name == OPERATOR or name.startswith(OPERATOR + ":")


def _token(line: str, file: Path, number: int) -> tuple[str, bytes]:
    name, tab, token = line.partition("\t")
    token = token.strip()
    if not tab or not token:
        raise ConfigError("expected NODE<TAB>TOKEN", file, number)
    if not NAME.holds(name.removeprefix(OPERATOR + ":")):
        raise ConfigError(f"{name!r:.80} is not {NAME.expected}", file, number)
    if not (token.isascii() and token.isprintable()):  # a header could not hold it
        raise ConfigError("a token is of printable ASCII", file, number)
    if _HASHED.fullmatch(token):
        return name, bytes.fromhex(token.removeprefix("sha256:"))
    return name, hashlib.sha256(token.encode()).digest()
