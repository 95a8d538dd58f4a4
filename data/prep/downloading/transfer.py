"""Downloads that may be cut off: they are tried again after a temporary failure, continue where
they stopped, and are unpacked whole or not at all. No message shows a key."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError
from data.prep.importers import archive

if TYPE_CHECKING:
    import httpx

MAX_BYTES = archive.MAX_TOTAL
"""The most bytes of an archive, the same as it may unpack to."""

_ATTEMPTS = 6
_LONGEST_PAUSE = 60.0
_TIMEOUT = 60.0
"""Seconds without a byte, not of the whole transfer."""
_SECONDS_BETWEEN_NOTES = 5.0
_BUSY = frozenset({429, 500, 502, 503, 504})
"""Too many requests, and failures of a server or of one behind it: these are temporary."""

Pause = Callable[[float], None]
"""Waits for a number of seconds."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Service:
    """Where a set is fetched from, and what identifies the user. Its `repr` shows no secrets."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


class _Again(Exception):
    """A temporary failure: a busy server, a lost connection."""


def fetch_archive(url: str, service: Service, folder: Path, pause: Pause) -> Path:
    """Download the zip beside `folder` and unpack it there, whole or not at all.

    Returns `folder`. A complete folder is not fetched again.

    Raises:
        ConfigError: the service does not accept the credentials.
        DataError: the set does not exist, is too large, cannot be trusted, or did not arrive.
    """
    if (folder / manifest.NAME).is_file():
        print(f"[download] there already: {folder}", flush=True)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    packed = folder.with_name(f"{folder.name}.zip")
    if not packed.is_file():
        partial = folder.with_name(f"{folder.name}.zip.partial")
        _retried(lambda: _download(url, service, partial), pause)
        partial.rename(packed)
    with archive.unpacking(packed, folder) as unpacked:
        archive.unpack(packed, unpacked)
    packed.unlink()
    return folder


def get_json(url: str, service: Service, pause: Pause) -> dict[str, Any]:
    """The JSON object that a service answers; any other JSON value counts as an empty one.

    Raises:
        ConfigError: the service does not accept the credentials.
        DataError: the answer is an error or not JSON, or the service stayed busy.
    """
    return _retried(lambda: _get_json(url, service), pause)


def _retried(work: Callable[[], Answer], pause: Pause) -> Answer:
    """The result of `work`; after a temporary failure it is tried again, with growing pauses."""
    attempt = 1
    while True:
        try:
            return work()
        except _Again as error:
            if attempt == _ATTEMPTS:
                raise DataError(f"gave up after {_ATTEMPTS} attempts: {error}") from None
            # Random, so that clients that failed together do not all return at once.
            seconds = min(_LONGEST_PAUSE, 2.0**attempt) * random.uniform(0.5, 1.0)
            print(f"[download] {error}; again in {seconds:.0f} s", flush=True)
            pause(seconds)
        attempt += 1


def _get_json(url: str, service: Service) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.get(url, params=service.params, headers=service.headers, timeout=_TIMEOUT)
        _demand_success(answer, url)
        content = answer.json()
    except httpx.TransportError as error:
        raise _Again(f"{type(error).__name__} at {_host(url)}") from None
    except ValueError:
        raise DataError("the answer is not JSON", _without_query(url)) from None
    return content if isinstance(content, dict) else {}


def _download(url: str, service: Service, partial: Path) -> None:
    """Append the missing bytes to `partial`; httpx sends no credentials to other hosts."""
    import httpx

    have = partial.stat().st_size if partial.is_file() else 0
    headers = dict(service.headers)
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with httpx.stream(
            "GET",
            url,
            headers=headers,
            # None, not {}: for {} httpx would remove the query from the address.
            params=service.params or None,
            timeout=_TIMEOUT,
            follow_redirects=True,
        ) as answer:
            if answer.status_code == 416:  # range not satisfiable: the file has no further bytes
                partial.unlink()
                raise _Again("the part on disk does not match the file")
            _demand_success(answer, url)
            if answer.status_code != 206:  # not partial content: the whole file is sent again
                have = 0
            total = have + int(answer.headers.get("content-length", 0))
            if total > MAX_BYTES:
                raise DataError(f"{total:,} bytes, at most {MAX_BYTES:,}", _without_query(url))
            _write(answer, partial, have, total)
    except httpx.TransportError as error:
        raise _Again(f"{type(error).__name__} at {_host(url)}") from None


def _write(answer: "httpx.Response", partial: Path, have: int, total: int) -> None:
    """Append the answer's bytes to the `have` bytes on disk; a `total` of 0 means unknown."""
    done = have
    last_note = time.monotonic()
    with partial.open("ab" if have else "wb") as file:
        for chunk in answer.iter_raw():
            done += len(chunk)
            if done > MAX_BYTES:
                raise DataError(f"over {MAX_BYTES:,} bytes", partial)
            file.write(chunk)
            if time.monotonic() - last_note > _SECONDS_BETWEEN_NOTES:
                last_note = time.monotonic()
                of_total = f" of {total / 1e6:,.0f}" if total else ""
                print(f"[download] {partial.stem}: {done / 1e6:,.0f}{of_total} MB", flush=True)
    if total and done < total:
        raise _Again(f"cut off after {done:,} of {total:,} bytes")


def _demand_success(answer: "httpx.Response", url: str) -> None:
    """Raise the error that a status other than success means."""
    status = answer.status_code
    if status in _BUSY:
        raise _Again(f"{_host(url)} answers {status}")
    if status in (401, 403):
        raise ConfigError(
            f"{_without_query(url)}: {status}, the credentials are not accepted, or the set's "
            "terms are not accepted yet: open its page once"
        )
    if status == 404:
        raise DataError("404, no such set", _without_query(url))
    if status not in (200, 202, 206):
        raise DataError(f"the answer is {status}", _without_query(url))


def _without_query(url: str) -> str:
    """The address without its query, which may hold a key."""
    return url.partition("?")[0]


def _host(url: str) -> str:
    return url.split("/")[2]
