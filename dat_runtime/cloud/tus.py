"""The tus resumable upload protocol 1.0.0, as far as it is headers: core, creation (with upload),
expiration. https://tus.io/protocols/resumable-upload; `visuals` does what they ask for.
"""

import base64
import binascii
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from dat_runtime.alert import ID, NAME
from dat_runtime.cloud.body import CLOSE, require_type
from dat_runtime.fields import Rule, Rules, checked, one_of

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration"
CONTENT_TYPE = "application/offset+octet-stream"
KINDS = ("roi", "box")
"""Pictures for people."""

QUESTIONS = ("code", "question")
"""What a model's server needs to answer in a weak node's place: learned bits, or a small picture.
They are no evidence, and nobody is shown them."""

MAX_BYTES = 8_000_000
"""Of one visual."""

MAX_QUESTION_BYTES = 1 << 20
"""Of a code or a small picture."""

MAX_METADATA = 8_000
"""Characters of `Upload-Metadata`."""

MAX_PROMPT = 4_000
"""Characters of a question's prompt: some ninety boxes."""

MAX_PATIENCE = 5.0
"""Seconds that a creation may wait for its alert."""

_WAIT = re.compile(r"(?i)(?:^|[,;\s])wait=([0-9]{1,6})(?:$|[,;\s])")

_NUMBER = re.compile(r"[0-9]{1,15}")

_METADATA: Rules = {
    "event": ID,
    "kind": one_of((*KINDS, *QUESTIONS)),
    "node": NAME,
    "prompt": Rule(
        lambda v: v.isprintable() and len(v) <= MAX_PROMPT,
        f"a text of at most {MAX_PROMPT:,} printable characters",
    ),
    "revision": Rule(
        lambda v: _NUMBER.fullmatch(v) is not None and int(v) <= 1_000_000,
        "a whole number from 0 to 1e+06",
    ),
}


_OPTIONAL = ("node", "revision", "prompt")


@dataclass(frozen=True)
class Wanted:
    """What a creation asks for.

    Attributes:
        event: its id.
        node: whose event; `None` will do while only one node has that id.
        revision: of the event that it shows; `None` is the newest that the receiver has.
        length: bytes.
        metadata: as the client stated it.
    """

    event: str
    kind: str
    node: str | None
    revision: int | None
    length: int
    metadata: str


class TusRoute(APIRoute):
    """A route of the protocol: its version is asked for and stated, in refusals too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_version(request: Request) -> Response:
            try:
                _require_version(request)
                response = await handle(request)
            except HTTPException as error:
                error.headers = {"Tus-Resumable": VERSION} | dict(error.headers or {})
                raise
            response.headers["Tus-Resumable"] = VERSION
            return response

        return with_version


def _require_version(request: Request) -> None:
    if request.method == "OPTIONS" or request.headers.get("tus-resumable") == VERSION:
        return
    raise HTTPException(412, f"Tus-Resumable: expected {VERSION}", {"Tus-Version": VERSION} | CLOSE)


def options() -> Response:
    """What is spoken here."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(MAX_BYTES),
        "Cache-Control": "no-store",
    }
    return Response(None, 204, headers)


def wanted(request: Request) -> Wanted:
    """What a creation asks for.

    Raises:
        HTTPException: 400 names the header and what is wrong with it; 413, it is too long.
    """
    length = _number(request, "Upload-Length")
    if length > MAX_BYTES:
        raise HTTPException(413, f"Upload-Length: at most {MAX_BYTES:,} bytes", CLOSE)
    if length == 0:
        raise HTTPException(400, "Upload-Length: a visual has at least one byte", CLOSE)
    text = request.headers.get("upload-metadata", "")
    try:
        told = metadata(text)
    except ValueError as error:
        raise HTTPException(400, f"Upload-Metadata: {error}", CLOSE) from None
    most = most_bytes(told["kind"])
    if length > most:
        words = f"Upload-Length: at most {most:,} bytes of kind {told['kind']}"
        raise HTTPException(413, words, CLOSE)
    revision = told.get("revision")
    return Wanted(
        event=told["event"],
        kind=told["kind"],
        node=told.get("node"),
        revision=None if revision is None else int(revision),
        length=length,
        metadata=text,
    )


def most_bytes(kind: str) -> int:
    """Of an upload of this kind."""
    return MAX_QUESTION_BYTES if kind in QUESTIONS else MAX_BYTES


def patience(request: Request) -> float:
    """Seconds that a creation asks to wait for its alert (`Prefer: wait=N`, RFC 7240)."""
    asked = _WAIT.search(request.headers.get("prefer", ""))
    return 0.0 if asked is None else min(float(asked[1]), MAX_PATIENCE)


def metadata(text: str) -> Mapping[str, str]:
    """The pairs in `Upload-Metadata`: event, kind, and maybe node and revision; no others.

    A question has a prompt too.

    Raises:
        ValueError: names the key and what is wrong with it.
    """
    if len(text) > MAX_METADATA:
        raise ValueError(f"more than {MAX_METADATA:,} characters")
    told: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip(" ").partition(" ")
        if key in told:
            raise ValueError(f"{key!r:.40} is there twice")
        try:
            told[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeError):
            raise ValueError(f"{key!r:.40} is not a text in base64") from None
    return _checked(told)


def metadata_of(told: Mapping[str, str]) -> str:
    """The pairs as `Upload-Metadata` states them.

    Raises:
        ValueError: names the key and what is wrong with it.
    """
    _checked(told)
    pairs = ((key, base64.b64encode(value.encode()).decode()) for key, value in told.items())
    return ",".join(f"{key} {value}" for key, value in pairs)


def _checked(told: Mapping[str, str]) -> Mapping[str, str]:
    checked(told, _METADATA, "", _OPTIONAL)
    is_question = told["kind"] in QUESTIONS
    if is_question != ("prompt" in told):
        raise ValueError(
            f"prompt is {'missing' if is_question else 'there'}: those of kind "
            f"{' and '.join(QUESTIONS)} state one, and no others"
        )
    return told


def offset(request: Request) -> int:
    """`Upload-Offset` of a request that brings bytes.

    Raises:
        HTTPException: 400, it is missing or no whole number; 415, another content type.
    """
    require_type(request, CONTENT_TYPE)
    return _number(request, "Upload-Offset")


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise HTTPException(400, f"{name}: expected a whole number of bytes", CLOSE)
    return int(text)


def state(arrived: int, expires_at: float | None) -> dict[str, str]:
    """The headers that say how far an upload is; `None` for one that does not expire."""
    headers = {"Upload-Offset": str(arrived), "Cache-Control": "no-store"}
    if expires_at is not None:
        headers["Upload-Expires"] = formatdate(expires_at, usegmt=True)
    return headers
