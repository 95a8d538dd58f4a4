"""Whether a node may take a bundle: what was signed, what the bundle says, what the node has. Pure.

Nothing is guessed: where a node does not know what it has, such as the image processor of a base
that no signed bundle told it of, that one question is left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dat_runtime.edge.bundle import Bundle
from dat_runtime.edge.updates.offer import Offer, Terms
from dat_runtime.edge.updates.switch import State
from dat_runtime.manifest import VERSIONS, Manifest


@dataclass(frozen=True)
class Here:
    """What a node has.

    Attributes:
        runtime: the version of this package.
        base, revision: of the adapter at work; `None`: nothing was installed yet.
        processor: of that base, where a signed bundle said so.
        release: of the version at work, 0 where it did not come signed.
    """

    runtime: str
    base: str | None = None
    revision: str | None = None
    processor: str | None = None
    release: int = 0


def here(runtime: str, at_work: Manifest | None, state: State) -> Here:
    """What a node has whose version at work has that manifest."""
    if at_work is None:
        return Here(runtime)
    signed = state.signed.get(state.current or "")
    return Here(
        runtime=runtime,
        base=at_work.config.get("base"),
        revision=at_work.config.get("revision"),
        processor=None if signed is None else signed.processor,
        release=0 if signed is None else signed.release,
    )


def objection(terms: Terms, node: Here) -> str | None:
    """Why a node may not take what is offered, in words, before a byte of it is fetched."""
    if _numbers(terms.runtime) > _numbers(node.runtime):
        return f"needs dat-runtime {terms.runtime}, this is {node.runtime}: install that first"
    offered = {"prompt": terms.prompt, "schema": terms.schema, "drawing": terms.drawing}
    if offered != VERSIONS:
        return f"was made with versions {_listed(offered)}, this library has {_listed(VERSIONS)}"
    words = other_base(terms.base, terms.base_revision, node)
    if words is not None:
        return words
    if node.processor not in (None, terms.processor):
        return f"its base reads images by another processor ({terms.processor[:16]})"
    return None


def other_base(base: str, revision: str, node: Here) -> str | None:
    """That a bundle belongs to another base model than the node's, in words."""
    if node.base is None or (base, revision) == (node.base, node.revision):
        return None
    return (
        f"is for {base}, revision {revision}, this node has {node.base}, revision "
        f"{node.revision}: a new base model is brought by hand, as `bundle` in node.yaml"
    )


def broken_promise(terms: Terms, bundle: Bundle) -> str | None:
    """How a bundle differs from what was signed of it, in words."""
    adapter = bundle.adapter
    told = {
        "base": (terms.base, adapter.base),
        "base_revision": (terms.base_revision, adapter.revision),
        "rank": (terms.rank, adapter.rank),
    }
    for name, (said, is_so) in told.items():
        if said != is_so:
            return f"its terms state {name} {said}, its adapter has {is_so}"
    return None


def choose(
    offers: Sequence[Offer], node: str, name: str | None, state: State, mine: Here
) -> tuple[Offer | None, list[str]]:
    """The offer to take: of this node's bundle and share, newer, not blocked, and compatible.

    Args:
        offers: the highest release first.
        node: the node's name, which says whether it is in an offer's share.
        name: of the bundle; `None`: the only one that is offered.

    Returns:
        The offer, or `None`; and why newer ones were passed over, in words.

    Raises:
        ValueError: several bundles are offered, or none of that name.
    """
    passed: list[str] = []
    for offer in _named(offers, name):
        if offer.release <= mine.release or offer.digest[:16] == state.current:
            break  # what follows is older
        if (words := _passed_over(offer, node, state, mine)) is None:
            return offer, passed
        passed.append(f"{offer.name} {offer.version}: {words}")
    return None, passed


def _passed_over(offer: Offer, node: str, state: State, mine: Here) -> str | None:
    version = offer.digest[:16]
    if version in state.blocked:
        return f"is blocked as {version} ({state.blocked[version]})"
    if not offer.is_for(node):
        return f"is for {offer.terms.rollout:.0%} of the nodes, and not yet for this one"
    return objection(offer.terms, mine)


def _named(offers: Sequence[Offer], name: str | None) -> Iterable[Offer]:
    names = sorted({offer.name for offer in offers})
    if name is None and len(names) > 1:
        raise ValueError(f"several are offered, {', '.join(names)}: name one as updates.bundle")
    if name is not None and names and name not in names:
        raise ValueError(f"no bundle {name} is offered, only {', '.join(names)}")
    return [offer for offer in offers if name in (None, offer.name)]


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 0, 1 of 0.1.0.dev3; zeros at the end mean nothing."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _listed(versions: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
