"""Fetch the public sets with your own account, for `data.prep.build --source`.

    python -m data.prep.download public --out SRC
    python -m data.prep.download kaggle OWNER/NAME --out SRC
    python -m data.prep.download roboflow WORKSPACE/PROJECT/VERSION --out SRC

Kaggle: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json.
Roboflow: ROBOFLOW_API_KEY. Read and accept each set's licence on its page first.
A download that was cut off goes on where it stopped; what is there already is not fetched again.
"""

import argparse
import base64
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.stage import Stage
from data.prep.importers import archive

if TYPE_CHECKING:
    import httpx

PUBLIC = (
    "amedeograndi/accidents-detection-dataset",
    "ckay16/accident-detection-from-cctv-footage",
    "kimdaegyeom/5g-traffic-datasets",
)
"""The paper's references [1], [3] and [5], on Kaggle."""
MAX_BYTES = archive.MAX_TOTAL

_ATTEMPTS = 6
_TIMEOUT = 60.0
_SECONDS_BETWEEN_NOTES = 5.0
_EXPORT_POLLS = 180
_BUSY = frozenset({429, 500, 502, 503, 504})
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Service:
    """Where a set is fetched from, and how requests say whose they are. Secrets are not shown."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


def kaggle(environ: Mapping[str, str], endpoint: str = "https://www.kaggle.com/api/v1") -> Service:
    """Kaggle's API with the user's credentials.

    Raises:
        ConfigError: there are none; says where to put them.
    """
    if token := environ.get("KAGGLE_API_TOKEN"):
        return Service(endpoint, {"Authorization": f"Bearer {token}"})
    user, key = environ.get("KAGGLE_USERNAME"), environ.get("KAGGLE_KEY")
    if not (user and key):
        folder = Path(environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
        try:
            content = json.loads((folder / "kaggle.json").read_bytes())
            user, key = str(content["username"]), str(content["key"])
        except FileNotFoundError:
            raise ConfigError(
                "no Kaggle credentials: set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, "
                f"or put kaggle.json into {folder} (kaggle.com, Settings, API)"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{folder}/kaggle.json holds no username and key") from None
    basic = base64.b64encode(f"{user}:{key}".encode()).decode()
    return Service(endpoint, {"Authorization": f"Basic {basic}"})


def roboflow(environ: Mapping[str, str], endpoint: str = "https://api.roboflow.com") -> Service:
    """Roboflow's API with the user's key.

    Raises:
        ConfigError: there is none.
    """
    key = environ.get("ROBOFLOW_API_KEY")
    if not key:
        raise ConfigError("no Roboflow key: set ROBOFLOW_API_KEY (app.roboflow.com, Settings, API)")
    return Service(endpoint, params={"api_key": key})


def fetch_kaggle(
    name: str, out: Path, service: Service, pause: Callable[[float], None] = time.sleep
) -> Path:
    """The newest version of the set `OWNER/NAME`, unpacked into `out/NAME`."""
    owner, dataset = _parts(name, "OWNER/NAME")
    url = f"{service.endpoint}/datasets/download/{owner}/{dataset}"
    return _fetch(url, service, out / dataset, pause)


def fetch_roboflow(
    name: str, out: Path, service: Service, pause: Callable[[float], None] = time.sleep
) -> Path:
    """The version `WORKSPACE/PROJECT/VERSION` as YOLO text, unpacked into `out/PROJECT-VERSION`."""
    workspace, project, version = _parts(name, "WORKSPACE/PROJECT/VERSION")
    folder = out / f"{project}-{version}"
    url = f"{service.endpoint}/{workspace}/{project}/{version}/yolov8"
    for _ in range(_EXPORT_POLLS):
        answer = _retried(lambda: _json(url, service), pause)
        link = (answer.get("export") or {}).get("link")
        if link:
            return _fetch(link, Service(service.endpoint), folder, pause)
        print(f"[download] {name}: the export is being made", flush=True)
        pause(2.0)
    raise DataError("the export was not ready in time, try again later", name)


def _parts(name: str, form: str) -> list[str]:
    parts = name.split("/")
    if len(parts) != form.count("/") + 1 or not all(map(_PART.fullmatch, parts)):
        raise ConfigError(f"expected {form}, got {name!r:.120}")
    return parts


def _fetch(url: str, service: Service, folder: Path, pause: Callable[[float], None]) -> Path:
    """Download the zip beside `folder` and unpack it there, whole or not at all."""
    if (folder / "manifest.json").is_file():
        print(f"[download] there already: {folder}", flush=True)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    packed = folder.with_name(f"{folder.name}.zip")
    if not packed.is_file():
        partial = folder.with_name(f"{folder.name}.zip.partial")
        _retried(lambda: _download(url, service, partial), pause)
        partial.rename(packed)
    stage = Stage(
        folder, kind="source", inputs={"archive": packed}, config={}, code=[archive.__file__]
    )
    with stage as unpacked:
        archive.unpack(packed, unpacked)
    packed.unlink()
    return folder


class _Again(Exception):
    """A failure that may pass: a busy server, a cut line."""


def _retried(work: Callable[[], Any], pause: Callable[[float], None]) -> Any:
    """`work`, again after a growing, jittered pause where the failure may pass."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return work()
        except _Again as error:
            if attempt == _ATTEMPTS:
                raise DataError(f"gave up after {_ATTEMPTS} attempts: {error}") from None
            seconds = min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)
            print(f"[download] {error}; again in {seconds:.0f} s", flush=True)
            pause(seconds)


def _json(url: str, service: Service) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.get(url, params=service.params, headers=service.headers, timeout=_TIMEOUT)
        _demand(answer, url)
        content = answer.json()
    except httpx.TransportError as error:
        raise _Again(f"{type(error).__name__} at {_host(url)}") from None
    except ValueError:
        raise DataError("the answer is no JSON", _bare(url)) from None
    return content if isinstance(content, dict) else {}


def _download(url: str, service: Service, partial: Path) -> None:
    """Append to `partial` what is missing of it; httpx sends no credentials to other hosts."""
    import httpx

    have = partial.stat().st_size if partial.is_file() else 0
    headers = {**service.headers, **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with httpx.stream(
            "GET", url, headers=headers, params=service.params or None, timeout=_TIMEOUT,
            follow_redirects=True,
        ) as answer:  # fmt: skip
            if answer.status_code == 416:  # there is nothing after what we have
                partial.unlink()
                raise _Again("the part on disk does not fit")
            _demand(answer, url)
            resumed = answer.status_code == 206
            total = int(answer.headers.get("content-length", 0)) + (have if resumed else 0)
            if total > MAX_BYTES:
                raise DataError(f"{total:,} bytes, at most {MAX_BYTES:,}", _bare(url))
            _write(answer, partial, have if resumed else 0, total)
    except httpx.TransportError as error:
        raise _Again(f"{type(error).__name__} at {_host(url)}") from None


def _write(answer: "httpx.Response", partial: Path, done: int, total: int) -> None:
    noted = time.monotonic()
    with partial.open("ab" if done else "wb") as file:
        for chunk in answer.iter_raw():
            done += len(chunk)
            if done > MAX_BYTES:
                raise DataError(f"over {MAX_BYTES:,} bytes", partial)
            file.write(chunk)
            if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
                noted = time.monotonic()
                of = f" of {total / 1e6:,.0f}" if total else ""
                print(f"[download] {partial.stem}: {done / 1e6:,.0f}{of} MB", flush=True)
    if total and done < total:
        raise _Again(f"cut off after {done:,} of {total:,} bytes")


def _demand(answer: "httpx.Response", url: str) -> None:
    status = answer.status_code
    if status in _BUSY:
        raise _Again(f"{_host(url)} answers {status}")
    if status in (401, 403):
        raise ConfigError(
            f"{_bare(url)}: {status}, the credentials are not accepted, or the set's terms are "
            "not accepted yet: open its page once"
        )
    if status == 404:
        raise DataError("404, no such set", _bare(url))
    if status not in (200, 202, 206):
        raise DataError(f"the answer is {status}", _bare(url))


def _bare(url: str) -> str:
    """Without the query, which may hold a key."""
    return url.partition("?")[0]


def _host(url: str) -> str:
    return url.split("/")[2]


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.prep.download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("service", choices=("public", "kaggle", "roboflow"))
    parser.add_argument("name", nargs="?", help="OWNER/NAME or WORKSPACE/PROJECT/VERSION")
    parser.add_argument("--out", type=Path, required=True, help="folder to put the sets into")
    args = parser.parse_args(argv)
    if (args.service == "public") == bool(args.name):
        raise ConfigError("`public` takes no name, `kaggle` and `roboflow` need one")
    if args.service == "roboflow":
        fetch_roboflow(args.name, args.out, roboflow(os.environ))
    else:
        service = kaggle(os.environ)
        for name in PUBLIC if args.service == "public" else (args.name,):
            fetch_kaggle(name, args.out, service)
    print(f"[download] done; next: python -m data.prep.build --source {args.out} --out OUT/data")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
