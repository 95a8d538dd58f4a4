"""Installing a version and going back: `dat-runtime install | rollback`.

    fetch -> verify -> compatible? -> canary frames -> switch -> probation, in the running node

Each step only adds files beside those in use; the switch is one rename (`versions`). A running node
follows by itself, a stopped one starts with the new version.
"""

import time
from pathlib import Path

from dat_runtime.edge.bundle import Bundle, open_bundle
from dat_runtime.edge.node_file import read_node
from dat_runtime.edge.node_settings import NodeSettings
from dat_runtime.edge.updates import compatibility, switch
from dat_runtime.edge.updates.adapters import adapter_of
from dat_runtime.edge.updates.canary import Canary
from dat_runtime.edge.updates.coming import Coming, fetched, here, say
from dat_runtime.edge.updates.offer import Offer
from dat_runtime.edge.updates.switch import Signed
from dat_runtime.edge.updates.versions import Versions, version_of
from dat_runtime.errors import ConfigError, DatError, ManifestError, ModelError

REFUSED = 3
"""The exit status of an installation that was refused: nothing changed."""


class Refused(DatError):
    """A version is not taken; what runs goes on."""


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
        coming = fetched(settings, versions, source, unsigned)
        if coming is None:
            return 0
        code = 0
        try:
            version = _checked(settings, versions, coming)
            if version is not None:
                _switch(versions, version, coming.offer)
        except Refused as error:
            say(f"refused   {error}")
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
    _warn_unfit(state.previous, open_bundle(versions.folder_of(state.previous)))
    try:
        state = versions.change(lambda now: switch.returned(now, "rolled back by hand"))
    except ValueError as error:  # a running node was quicker
        raise ConfigError(str(error), versions.folder) from None
    say(f"current   {state.current}: a running node takes it within seconds")
    return 0


def _warn_unfit(version: str, bundle: Bundle) -> None:
    if bundle.not_fit is not None:
        say(f"warning   {version} is NOT FIT FOR USE: {bundle.not_fit}")


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
        say(f"note      {settings.bundle} is not kept: {error}")
        return
    served = adapter_of(bundle.manifest)
    versions.change(lambda state: switch.adopted(state, version, served))
    say(f"kept      {settings.bundle} as {version}")


def _checked(settings: NodeSettings, versions: Versions, coming: Coming) -> str | None:
    """The version, among the others, once nothing speaks against it; `None`: it is at work.

    Raises:
        Refused: something does; a version that is broken or failed its canary is blocked.
        DatError: it cannot be tried now.
    """
    version, state = version_of(coming.folder), versions.state()
    if version == state.current:
        say(f"current   {version}: it is at work already")
        return None
    if version in state.blocked:
        raise Refused(f"{version} is blocked ({state.blocked[version]}): --unblock {version}")
    try:
        bundle = open_bundle(coming.folder)
    except (ManifestError, ModelError) as error:
        raise _blocked(versions, version, str(error)) from None
    _warn_unfit(version, bundle)
    words = None
    if coming.offer is not None:
        words = compatibility.broken_promise(coming.offer.terms, bundle)
    if words is not None:
        raise _blocked(versions, version, words)
    adapter = bundle.adapter
    words = compatibility.other_base(adapter.base, adapter.revision, here(versions, state))
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
    say(f"current   {version}: a running node takes it within seconds, on probation")
