"""What an installation is to bring: a bundle's folder, or the newest signed one that fits."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dat_runtime import __version__, manifest
from dat_runtime.edge.node_settings import NodeSettings
from dat_runtime.edge.updates import compatibility, switch
from dat_runtime.edge.updates.offer import Offer
from dat_runtime.edge.updates.refusals import ExpiredMetadata, UpdateError
from dat_runtime.edge.updates.switch import Looked, State
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.errors import ConfigError, ManifestError, printable

PROGRESS_SECONDS = 5.0
"""Between two words on a download."""


@dataclass(frozen=True)
class Coming:
    """A bundle that lies among what is coming.

    Attributes:
        offer: `None` where it came unsigned, from a folder.
    """

    folder: Path
    offer: Offer | None


def fetched(
    settings: NodeSettings, versions: Versions, source: str | None, unsigned: bool
) -> Coming | None:
    """What is to be installed, among what is coming; `None` where there is nothing newer."""
    if source is not None and (Path(source) / manifest.NAME).is_file():
        if settings.updates is not None and not unsigned:
            raise ConfigError(
                f"{source} is a bundle without signatures, and node.yaml names a root of trust: "
                "add --unsigned to take it all the same"
            )
        return Coming(versions.bring(Path(source)), None)
    updates = settings.updates
    if updates is None:
        other = "" if source is None else f"{source} holds no {manifest.NAME}, so it is no bundle; "
        raise ConfigError(
            f"{other}node.yaml names no root of trust: add `updates: {{url: ..., root: ...}}` for "
            "signed ones, or install --from a bundle's folder"
        )
    return _offered(settings, versions, source or updates.url)


def _offered(settings: NodeSettings, versions: Versions, url: str) -> Coming | None:
    """The newest signed bundle for this node."""
    try:
        from dat_runtime.edge.updates.repository import Repository
    except ImportError as error:
        raise ConfigError(
            f"signed updates need packages ({error.name}): pip install 'dat-runtime[updates]'"
        ) from None
    from dat_runtime.edge.updates.polite import PoliteFetcher

    updates = settings.updates
    assert updates is not None
    fetch = None
    if url.startswith(("http://", "https://")):
        fetch = PoliteFetcher(updates.bytes_per_s, settings.metrics)
    repository = Repository(url, updates.root, versions.folder / "metadata", fetch)
    try:
        offers = repository.refresh()
    except UpdateError as error:
        stale = isinstance(error, ExpiredMetadata) or repository.stale
        _look(versions, str(error), stale)
        raise
    _look(versions, None, False)
    for bad in repository.refused:
        say(f"note      {bad}")
    state = versions.state()
    mine = here(versions, state)
    try:
        offer, passed = compatibility.choose(offers, settings.node, updates.bundle, state, mine)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for words in passed:
        say(f"passed    {words}")
    if offer is None:
        say(f"current   {state.current}: nothing newer for this node")
        return None
    there = versions.folder_of(offer.digest[:16])
    if versions.is_whole(there):  # an earlier installation could not try it
        return Coming(there, offer)
    into = versions.incoming / offer.digest[:16]
    have = None if state.current is None else versions.folder_of(state.current)
    say(f"coming    {offer.name} {offer.version}, {offer.length / 1e6:.1f} MB")
    with _progress(versions.incoming, offer.length):
        return Coming(repository.download(offer, into, have), offer)


@contextlib.contextmanager
def _progress(folder: Path, total: int) -> Iterator[None]:
    """Say now and then how much of a download lies in a folder."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            files = [path for path in folder.rglob("*") if path.is_file()]
            with contextlib.suppress(OSError):  # one of them has its final name by now
                here = sum(path.stat().st_size for path in files)
                say(f"          {here / 1e6:.1f} of {total / 1e6:.1f} MB")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _look(versions: Versions, problem: str | None, stale: bool) -> None:
    now = Looked(time.time(), problem, stale)
    versions.change(lambda state: switch.looked(state, now))


def here(versions: Versions, state: State) -> compatibility.Here:
    at_work = None
    if state.current is not None:
        try:
            at_work = manifest.verify(versions.folder_of(state.current))
        except ManifestError as error:
            say(f"note      {state.current} is damaged: {error}")
    return compatibility.here(__version__, at_work, state)


def say(words: str) -> None:
    """Tell whoever runs the command."""
    print(printable(words), flush=True)
