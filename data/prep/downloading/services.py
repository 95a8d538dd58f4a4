"""The services that offer the public sets, used with the user's own account.

Credentials are read where the official clients keep them. They are sent only to the service, never
to the storage that it redirects to, and never shown in a message.
"""

import base64
import re
import time
from collections.abc import Mapping
from pathlib import Path

from dat_runtime import files
from dat_runtime.errors import ConfigError, DataError
from data.prep.downloading.transfer import Pause, Service, fetch_archive, get_json

PUBLIC = (
    "amedeograndi/accidents-detection-dataset",
    "ckay16/accident-detection-from-cctv-footage",
    "kimdaegyeom/5g-traffic-datasets",
)
"""The paper's references [1], [3] and [5], on Kaggle."""

_EXPORT_POLLS = 180
_SECONDS_BETWEEN_POLLS = 2.0
_NAME_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a part of a set's name may be, as it becomes part of an address and of a folder's name."""


def kaggle(environ: Mapping[str, str], endpoint: str = "https://www.kaggle.com/api/v1") -> Service:
    """Kaggle's API with the user's credentials.

    Raises:
        ConfigError: there are no credentials; states where to put them.
    """
    token = environ.get("KAGGLE_API_TOKEN")
    if token:
        return Service(endpoint, {"Authorization": f"Bearer {token}"})
    user, key = environ.get("KAGGLE_USERNAME"), environ.get("KAGGLE_KEY")
    if not (user and key):
        user, key = _kaggle_json(environ)
    basic = base64.b64encode(f"{user}:{key}".encode()).decode()
    return Service(endpoint, {"Authorization": f"Basic {basic}"})


def _kaggle_json(environ: Mapping[str, str]) -> tuple[str, str]:
    """User and key from the file that Kaggle's own client reads."""
    folder = Path(environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    path = folder / "kaggle.json"
    content = files.read_json(
        path,
        ConfigError,
        missing="no Kaggle credentials: set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, "
        f"or put kaggle.json into {folder} (kaggle.com, Settings, API)",
    )
    try:
        return str(content["username"]), str(content["key"])
    except (KeyError, TypeError):  # not `fields.checked`, whose errors show the values
        raise ConfigError("holds no username and key", path) from None


def roboflow(environ: Mapping[str, str], endpoint: str = "https://api.roboflow.com") -> Service:
    """Roboflow's API with the user's key.

    Raises:
        ConfigError: there is no key.
    """
    key = environ.get("ROBOFLOW_API_KEY")
    if not key:
        raise ConfigError("no Roboflow key: set ROBOFLOW_API_KEY (app.roboflow.com, Settings, API)")
    return Service(endpoint, params={"api_key": key})


def fetch_kaggle(name: str, out: Path, service: Service, pause: Pause = time.sleep) -> Path:
    """The newest version of the set `OWNER/NAME`, unpacked into `out/NAME`."""
    owner, dataset = _parts(name, "OWNER/NAME")
    url = f"{service.endpoint}/datasets/download/{owner}/{dataset}"
    return fetch_archive(url, service, out / dataset, pause)


def fetch_roboflow(name: str, out: Path, service: Service, pause: Pause = time.sleep) -> Path:
    """The version `WORKSPACE/PROJECT/VERSION` as YOLO text, unpacked into `out/PROJECT-VERSION`."""
    workspace, project, version = _parts(name, "WORKSPACE/PROJECT/VERSION")
    folder = out / f"{project}-{version}"
    url = f"{service.endpoint}/{workspace}/{project}/{version}/yolov8"
    for _ in range(_EXPORT_POLLS):
        answer = get_json(url, service, pause)
        link = (answer.get("export") or {}).get("link")
        if link:
            # The link is signed and leads to a storage service, which must not get the key.
            return fetch_archive(link, Service(service.endpoint), folder, pause)
        print(f"[download] {name}: the export is being made", flush=True)
        pause(_SECONDS_BETWEEN_POLLS)
    raise DataError("the export was not ready in time, try again later", name)


def _parts(name: str, form: str) -> list[str]:
    """The parts of a set's name.

    Raises:
        ConfigError: the name does not have the form.
    """
    parts = name.split("/")
    if len(parts) != form.count("/") + 1 or not all(map(_NAME_PART.fullmatch, parts)):
        raise ConfigError(f"expected {form}, got {name!r:.120}")
    return parts
