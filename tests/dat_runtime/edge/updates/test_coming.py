"""What an installation is to bring, with a repository that is none."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dat_runtime import __version__
from dat_runtime.edge.updates import coming, compatibility
from dat_runtime.edge.updates.coming import Coming, fetched, here, say
from dat_runtime.edge.updates.offer import Offer, OfferedFile
from dat_runtime.edge.updates.polite import PoliteFetcher
from dat_runtime.edge.updates.refusals import BadOffer, ExpiredMetadata, Unreachable
from dat_runtime.edge.updates.switch import Looked, Signed, State
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.errors import ConfigError
from dat_runtime.manifest import VERSIONS
from tests.export.repository.small_repository import terms

OLD = "a" * 16
URL = "https://updates.example/r"


def offer(release: int = 7, **changes: object) -> Offer:
    file = OfferedFile("a", "0" * 64, 1_250_000)
    told = terms(**(dict(VERSIONS) | {"release": release, "runtime": "0"} | changes))
    return Offer("crossing", "2.0", release, f"{release:x}" * 64, (file, file), told)


class Repository:
    """In the place of `repository.Repository`: offers what the test says."""

    made: list[tuple[object, ...]]
    offers: list[Offer]
    error: Exception | None
    refused: tuple[BadOffer, ...]
    stale: bool

    def __init__(self, *given: object):
        Repository.made.append(given)
        self.downloaded: list[tuple[object, ...]] = []

    def refresh(self) -> list[Offer]:
        if Repository.error is not None:
            raise Repository.error
        return Repository.offers

    def download(self, offer: Offer, into: Path, have: Path | None) -> Path:
        Repository.made.append((offer, into, have))
        return into


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> type[Repository]:
    Repository.made, Repository.offers, Repository.error = [], [], None
    Repository.refused, Repository.stale = (), False
    module: Any = ModuleType("repository")
    module.Repository = Repository
    monkeypatch.setitem(sys.modules, "dat_runtime.edge.updates.repository", module)
    monkeypatch.setattr(coming, "time", SimpleNamespace(time=lambda: 99.5))
    return Repository


def node(url: str | None = URL, bundle: str | None = None) -> Any:
    updates = SimpleNamespace(url=url, root=Path("root.json"), bundle=bundle, bytes_per_s=1e6)
    return SimpleNamespace(
        node="n1", metrics=("127.0.0.1", 7), updates=None if url is None else updates
    )


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "bundle")


def known(versions: Versions, **state: Any) -> Versions:
    versions.change(lambda _: State(**state))
    return versions


def test_a_folder_with_a_manifest_is_a_bundle_that_is_copied(
    tmp_path: Path, versions: Versions
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "manifest.json").write_text("{}")
    with versions.installing():
        taken = fetched(node(None), versions, str(given), False)
    assert taken == Coming(versions.incoming / "bundle", None)
    words = (
        f"{given} is a bundle without signatures, and node.yaml names a root of trust: add"
        " --unsigned to take it all the same"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        fetched(node(), versions, str(given), False)
    with versions.installing():
        assert fetched(node(), versions, str(given), True) == taken


@pytest.mark.parametrize("source", [None, "there"])
def test_without_a_root_of_trust_there_is_nothing_to_trust(
    versions: Versions, source: str | None
) -> None:
    other = f"{source} holds no manifest.json, so it is no bundle; " if source else ""
    words = (
        f"{other}node.yaml names no root of trust: add `updates: {{url: ..., root: ...}}` for"
        " signed ones, or install --from a bundle's folder"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        fetched(node(None), versions, source, True)


def test_the_newest_that_fits_is_downloaded_beside_what_is_there(
    repository: type[Repository], versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    known(versions, current=OLD)
    repository.refused = (BadOffer("no bundle"),)
    repository.offers = [offer(9, rollout="0"), offer(8)]
    taken = fetched(node(), versions, None, False)
    into = versions.incoming / ("8" * 16)
    assert taken == Coming(into, repository.offers[1])
    (url, root, folder, fetch), downloaded = repository.made
    assert (url, root, folder) == (URL, Path("root.json"), versions.folder / "metadata")
    assert isinstance(fetch, PoliteFetcher)
    assert (fetch._bytes_per_s, fetch._status) == (1e6, "http://127.0.0.1:7/status")
    assert downloaded == (repository.offers[1], into, versions.folder_of(OLD))
    assert versions.state().looked == Looked(99.5)
    assert capsys.readouterr().out.splitlines() == [
        "note      no bundle",
        f"note      {OLD} is damaged: {versions.folder_of(OLD)}/manifest.json: is missing: run the"
        f" stage that makes {versions.folder_of(OLD)}",
        "passed    crossing 2.0: is for 0% of the nodes, and not yet for this one",
        "coming    crossing 2.0, 2.5 MB",
    ]


def test_the_first_bundle_has_nothing_beside_it(
    repository: type[Repository], versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[tuple[object, ...]] = []
    monkeypatch.setattr(coming, "_progress", lambda *given: watched.append(given) or nullcontext())
    repository.offers = [offer()]
    taken = fetched(node(), versions, "/media/stick", False)
    assert taken is not None
    (url, _, _, fetch), downloaded = repository.made[:2]
    assert (url, fetch) == ("/media/stick", None)  # a folder needs no politeness
    assert watched == [(versions.incoming, 2_500_000)]
    fetched(node("http://h"), versions, None, False)
    assert isinstance(repository.made[2][3], PoliteFetcher)
    assert downloaded[2] is None


def test_what_came_whole_before_is_not_downloaded_again(
    repository: type[Repository], versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.offers = [offer()]
    place = versions.folder_of("7" * 16)
    monkeypatch.setattr(Versions, "is_whole", lambda _, folder: folder == place)
    assert fetched(node(), versions, None, False) == Coming(place, repository.offers[0])
    assert len(repository.made) == 1


def test_where_nothing_is_newer_that_is_said(
    repository: type[Repository],
    versions: Versions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(coming, "here", lambda *_: compatibility.Here("9", release=7))
    known(versions, current=OLD)
    repository.offers = [offer(7)]
    assert fetched(node(), versions, None, False) is None
    words = f"current   {OLD}: nothing newer for this node\n"
    assert capsys.readouterr().out == words
    with pytest.raises(ConfigError, match=r"^no bundle x is offered, only crossing$"):
        fetched(node(bundle="x"), versions, None, False)


@pytest.mark.parametrize(
    ("error", "stale", "told"),
    [
        (Unreachable("away"), False, Looked(99.5, "away")),
        (Unreachable("away"), True, Looked(99.5, "away", True)),
        (ExpiredMetadata("old"), False, Looked(99.5, "old", True)),
    ],
)
def test_a_look_that_learnt_nothing_is_remembered_with_its_reason(
    repository: type[Repository], versions: Versions, error: Exception, stale: bool, told: Looked
) -> None:
    repository.error, repository.stale = error, stale
    with pytest.raises(type(error)):
        fetched(node(), versions, None, False)
    assert versions.state().looked == told


def test_without_the_packages_for_signatures_they_are_named(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tuf", None)
    monkeypatch.delitem(sys.modules, "dat_runtime.edge.updates.repository", raising=False)
    for name in [name for name in sys.modules if name.startswith("tuf.")]:
        monkeypatch.delitem(sys.modules, name)
    words = r"^signed updates need packages \(tuf.*\): pip install 'dat-runtime\[updates\]'$"
    with pytest.raises(ConfigError, match=words):
        fetched(node(), versions, None, False)


def test_how_far_a_download_is_is_said_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coming, "PROGRESS_SECONDS", 0.001)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.part").write_bytes(b"x" * 150_000)
    (tmp_path / "b").write_bytes(b"x" * 100_000)
    said = ""
    with coming._progress(tmp_path, 2_500_000):
        while said.count("\n") < 2:
            said += capsys.readouterr().out
    assert set(said.splitlines()) == {"          0.2 of 2.5 MB"}
    capsys.readouterr()
    assert capsys.readouterr().out == ""


def test_what_the_node_has_is_what_its_version_at_work_says(
    tmp_path: Path, versions: Versions, make_bundle: Callable[[], Path]
) -> None:
    assert here(versions, State()) == compatibility.Here(__version__)
    with versions.installing():
        version = versions.add(versions.bring(make_bundle()))
    state = State(current=version, signed={version: Signed(7, "p")})
    assert here(versions, state) == compatibility.Here(__version__, "base", "0" * 64, "p", 7)
    (versions.folder_of(version) / "README.md").write_text("changed")
    assert here(versions, state) == compatibility.Here(__version__)


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[[], Path]:
    from benchmarks.bundle_variants import tiny_bundle

    return lambda: tiny_bundle(tmp_path / "made")


def test_a_terminal_obeys_nothing_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2J")
    assert capsys.readouterr().out == "a\\x1b[2J\n"


def test_what_is_said_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Stream())
    say("now")
    assert flushed == ["now\n"]
