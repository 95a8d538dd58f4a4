"""Installing a version, going back, and saying which one is at work (`dat-runtime install` ...).

    fetch -> verify -> compatible? -> canary frames -> switch -> probation, in the running node

Each step only adds files beside those in use; the switch is one rename (`versions`). A running node
follows by itself, a stopped one starts with the new version.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dat_runtime import __version__, manifest
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.node_settings import NodeSettings, read_node
from dat_runtime.edge.updates import compatibility, switch
from dat_runtime.edge.updates.adapters import adapter_of
from dat_runtime.edge.updates.canary import Canary
from dat_runtime.edge.updates.offer import Offer
from dat_runtime.edge.updates.refusals import ExpiredMetadata, UpdateError
from dat_runtime.edge.updates.switch import Looked, Signed, State
from dat_runtime.edge.updates.versions import Versions, version_of
from dat_runtime.errors import ConfigError, DatError, ManifestError, ModelError, printable

PROGRESS_SECONDS = 5.0
"""Between two words on a download."""

REFUSED = 3
"""The exit status of an installation that was refused: nothing changed."""


class Refused(DatError):
    """A version is not taken; what runs goes on."""


@dataclass(frozen=True)
class Coming:
    """A bundle that lies among what is coming.

    Attributes:
        offer: `None` where it came unsigned, from a folder.
    """

    folder: Path
    offer: Offer | None


def install(
    node: Path, source: str | None = None, *, unsigned: bool = False, unblock: str | None = None
) -> int:
    """Bring the newest version that fits, or a folder's; 0 also where there is nothing newer.

    Args:
        source: a repository's address or folder in place of `updates.url`, or a bundle's folder.
        unsigned: take a bundle's folder although node.yaml names a root of trust.
        unblock: a version that failed before and may be tried again.

    Returns:
        0, or `REFUSED`.

    Raises:
        DatError: it cannot be done now, or not from here.
    """
    settings = read_node(node)
    versions = Versions(settings.bundle)
    with versions.installing():
        if unblock is not None:
            _unblock(versions, unblock)
        _adopt(settings, versions)
        coming = _fetched(settings, versions, source, unsigned)
        if coming is None:
            return 0
        code = 0
        try:
            version = _checked(settings, versions, coming)
            if version is not None:
                _switch(versions, version, coming.offer)
        except Refused as error:
            _say(f"refused   {error}")
            code = REFUSED
        versions.prune()
    return code


def rollback(node: Path) -> int:
    """Return to the previous version; the current one stays blocked.

    Raises:
        DatError: there is none, or it is broken.
    """
    versions = Versions(read_node(node).bundle)
    state = versions.state()
    if state.current is None or state.previous is None:
        raise ConfigError("there is no previous version to return to", versions.folder)
    open_bundle(versions.folder_of(state.previous))
    try:
        state = versions.change(lambda now: switch.returned(now, "rolled back by hand"))
    except ValueError as error:  # a running node was quicker
        raise ConfigError(str(error), versions.folder) from None
    _say(f"current   {state.current}: a running node takes it within seconds")
    return 0


def _unblock(versions: Versions, version: str) -> None:
    try:
        versions.change(lambda state: switch.unblocked(state, version))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _adopt(settings: NodeSettings, versions: Versions) -> None:
    """Keep the bundle that node.yaml names as the first version, to return to."""
    if versions.state().current is not None or not settings.bundle.is_dir():
        return
    try:
        bundle = open_bundle(settings.bundle)
        version = versions.add(versions.bring(settings.bundle))
    except (ManifestError, ModelError) as error:  # a node without a bundle is what this may mend
        _say(f"note      {settings.bundle} is not kept: {error}")
        return
    served = adapter_of(bundle.manifest)
    versions.change(lambda state: switch.adopted(state, version, served))
    _say(f"kept      {settings.bundle} as {version}")


# What comes


def _fetched(
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
        _say(f"note      {bad}")
    state = versions.state()
    mine = _here(versions, state)
    try:
        offer, passed = compatibility.choose(offers, settings.node, updates.bundle, state, mine)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for words in passed:
        _say(f"passed    {words}")
    if offer is None:
        _say(f"current   {state.current}: nothing newer for this node")
        return None
    there = versions.folder_of(offer.digest[:16])
    if versions.is_whole(there):  # an earlier installation could not try it
        return Coming(there, offer)
    into = versions.incoming / offer.digest[:16]
    have = None if state.current is None else versions.folder_of(state.current)
    _say(f"coming    {offer.name} {offer.version}, {offer.length / 1e6:.1f} MB")
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
                _say(f"          {here / 1e6:.1f} of {total / 1e6:.1f} MB")

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


def _here(versions: Versions, state: State) -> compatibility.Here:
    at_work = None
    if state.current is not None:
        try:
            at_work = manifest.verify(versions.folder_of(state.current))
        except ManifestError as error:
            _say(f"note      {state.current} is damaged: {error}")
    return compatibility.here(__version__, at_work, state)


# Whether it may be taken


def _checked(settings: NodeSettings, versions: Versions, coming: Coming) -> str | None:
    """The version, among the others, once nothing speaks against it; `None`: it is at work.

    Raises:
        Refused: something does; a version that is broken or failed its canary is blocked.
        DatError: it cannot be tried now.
    """
    version, state = version_of(coming.folder), versions.state()
    if version == state.current:
        _say(f"current   {version}: it is at work already")
        return None
    if version in state.blocked:
        raise Refused(f"{version} is blocked ({state.blocked[version]}): --unblock {version}")
    try:
        bundle = open_bundle(coming.folder)
    except (ManifestError, ModelError) as error:
        raise _blocked(versions, version, str(error)) from None
    words = None
    if coming.offer is not None:
        words = compatibility.broken_promise(coming.offer.terms, bundle)
    if words is not None:
        raise _blocked(versions, version, words)
    adapter = bundle.adapter
    words = compatibility.other_base(adapter.base, adapter.revision, _here(versions, state))
    if words is not None:
        raise Refused(f"{version} {words}")
    # At its own place before the MLLM's server opens its adapter there.
    versions.add(coming.folder)
    words = Canary(settings, versions).objection(version, adapter_of(bundle.manifest))
    if words is not None:
        raise _blocked(versions, version, words)
    return version


def _blocked(versions: Versions, version: str, reason: str) -> Refused:
    versions.change(lambda state: switch.blocked(state, version, reason))
    return Refused(f"{version} {reason}; it stays blocked until --unblock {version}")


def _switch(versions: Versions, version: str, offer: Offer | None) -> None:
    signed = None if offer is None else Signed(offer.release, offer.terms.processor)
    versions.change(lambda state: switch.switched(state, version, time.time(), signed))
    _say(f"current   {version}: a running node takes it within seconds, on probation")


# What is at work


def lines(state: State) -> Iterator[str]:
    """The versions in words."""
    yield f"current   {state.current or 'none installed: node.yaml names the bundle'}"
    if state.probation is not None:
        yield f"          on probation since {_when(state.probation.since)}"
    if state.previous is not None:
        yield f"previous  {state.previous}"
    for version, reason in state.blocked.items():
        yield f"blocked   {version}: {reason}"
    if state.looked is not None:
        stale = "STALE, updates are blocked: " if state.looked.stale else ""
        problem = state.looked.problem or "all well"
        yield f"updates   looked for at {_when(state.looked.at)}: {stale}{problem}"


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # a clock that was far off
        return f"{seconds:.0f} s"


def _say(words: str) -> None:
    print(printable(words), flush=True)
