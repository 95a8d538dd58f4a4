"""Publishing a folder, with a hub that is none."""

import re
from pathlib import Path
from typing import Any

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")

from dat_runtime.errors import ConfigError  # noqa: E402
from export.forms import hub  # noqa: E402


class Hub:
    """Keeps what it is asked; `error` is raised by every call."""

    endpoint = "https://hub.example"

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.error: Exception | None = None

    def _ask(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    def whoami(self) -> None:
        self._ask("whoami")

    def create_repo(self, name: str, **options: Any) -> None:
        self._ask("create", name, options)

    def upload_folder(self, **options: Any) -> None:
        self._ask("upload", options)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Hub:
    there = Hub()
    monkeypatch.setattr(hub, "_api", lambda: there)
    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: False)
    return there


def refused(name: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        hub.demand_access(name)
    return str(refusal.value)


def test_whoever_is_let_in_may_publish(online: Hub) -> None:
    hub.demand_access("me/mine")
    assert online.asked == [("whoami",)]


def test_what_could_not_be_published_in_the_end_is_refused(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused("mine") == "--push-to-hub mine: expected OWNER/NAME"
    assert refused("a/b/c").startswith("--push-to-hub a/b/c: ")
    assert re.fullmatch(r"--push-to-hub a b: Repo id must .*", refused("a b"))
    assert online.asked == []
    online.error = OSError("401\n  no   token " + "x" * 200)
    words = f"({'401 no token ' + 'x' * 187}): hf auth login"
    assert refused("me/mine") == (
        f"--push-to-hub me/mine: the hub does not let this account in {words}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: True)
    assert refused("me/mine") == (
        "--push-to-hub me/mine: HF_HUB_OFFLINE is set, so nothing can be published; leave the"
        " option out, or unset it"
    )
    assert len(online.asked) == 1


def test_a_folder_is_published_private_and_without_hidden_files(online: Hub) -> None:
    assert hub.push(Path("out"), "me/mine") == "https://hub.example/me/mine"
    assert online.asked == [
        ("create", "me/mine", {"private": True, "exist_ok": True}),
        (
            "upload",
            {"repo_id": "me/mine", "folder_path": Path("out"), "ignore_patterns": [".*"]},
        ),
    ]


def test_a_hub_that_refuses_is_told_and_the_folder_stays(online: Hub) -> None:
    for error in (OSError, ValueError):
        online.error = error("403\n  not  yours " + "x" * 300)
        words = f"out is made, but me/mine was not published ({'403 not yours ' + 'x' * 286})"
        with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
            hub.push(Path("out"), "me/mine")


def test_the_hub_is_that_of_its_own_library() -> None:
    assert isinstance(hub._api(), huggingface_hub.HfApi)
