"""Which offer a node takes, and what it says of the others."""

from types import SimpleNamespace

import pytest

from dat_runtime.edge.updates.compatibility import (
    Here,
    broken_promise,
    choose,
    here,
    objection,
)
from dat_runtime.edge.updates.offer import Offer, Terms
from dat_runtime.edge.updates.switch import Signed, State
from dat_runtime.manifest import VERSIONS, Manifest
from tests.export.repository.small_repository import terms

HERE = Here("1.2.0", "base", "0" * 40, "1" * 64, release=5)


def offered(**changes: object) -> Terms:
    return terms(**(dict(VERSIONS) | changes))


def offer(release: int, name: str = "crossing", **changes: object) -> Offer:
    told = offered(release=release, **changes)
    return Offer(name, f"{release}.0", release, f"{release:064x}"[::-1], (), told)


OURS = ", ".join(f"{name} {number}" for name, number in VERSIONS.items())


def versions(**changes: int) -> str:
    """That an offer was made with others, in words."""
    listed = ", ".join(f"{name} {number}" for name, number in (VERSIONS | changes).items())
    return f"was made with versions {listed}, this library has {OURS}"


def by_hand(base: str, revision: str) -> str:
    return (
        f"is for {base}, revision {revision}, this node has base, revision {'0' * 40}: a new base"
        " model is brought by hand, as `bundle` in node.yaml"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"runtime": "1.2"}, None),
        ({"runtime": "1.2.0.0"}, None),
        ({"runtime": "1.1.9"}, None),
        ({"runtime": "1.2.0.1"}, "needs dat-runtime 1.2.0.1, this is 1.2.0: install that first"),
        ({"runtime": "1.10"}, "needs dat-runtime 1.10, this is 1.2.0: install that first"),
        ({"prompt": VERSIONS["prompt"] + 1}, versions(prompt=VERSIONS["prompt"] + 1)),
        ({"schema": VERSIONS["schema"] + 1}, versions(schema=VERSIONS["schema"] + 1)),
        ({"drawing": VERSIONS["drawing"] + 1}, versions(drawing=VERSIONS["drawing"] + 1)),
        ({"base": "other"}, by_hand("other", "0" * 40)),
        ({"base_revision": "2" * 40}, by_hand("base", "2" * 40)),
        ({"processor": "2" * 64}, "its base reads images by another processor (2222222222222222)"),
    ],
)
def test_an_offer_that_does_not_fit_is_refused_before_it_is_fetched(
    changes: dict[str, object], words: str | None
) -> None:
    assert objection(offered(**changes), HERE) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"base": "b"}, "its terms state base base, its adapter has b"),
        ({"revision": "c"}, f"its terms state base_revision {'0' * 40}, its adapter has c"),
        ({"rank": 9}, "its terms state rank 8, its adapter has 9"),
    ],
)
def test_a_bundle_is_what_was_signed_of_it(changes: dict[str, object], words: str | None) -> None:
    told = {"base": "base", "revision": "0" * 40, "rank": 8} | changes
    bundle = SimpleNamespace(adapter=SimpleNamespace(**told))
    assert broken_promise(offered(), bundle) == words  # type: ignore[arg-type]


def test_what_a_node_has_is_of_its_version_at_work() -> None:
    config = {"base": "b", "revision": "r", "max_pixels": 1}
    manifest = Manifest("bundle", {}, config, "", {}, {})
    assert here("1.2", None, State(current="a", signed={"a": Signed(7, "p")})) == Here("1.2")
    assert here("1.2", manifest, State()) == Here("1.2", "b", "r")
    signed = {"a": Signed(7, "p"), "b": Signed(9, "q")}
    assert here("1.2", manifest, State(current="a", signed=signed)) == Here(
        "1.2", "b", "r", "p", release=7
    )
    assert here("1.2", manifest, State(current="c", signed=signed)) == Here("1.2", "b", "r")


def test_what_a_node_does_not_know_is_not_asked() -> None:
    assert objection(offered(base="other", processor="3" * 64), Here("1.2.0")) is None


def test_a_development_version_counts_as_its_release() -> None:
    assert objection(offered(runtime="1.3"), Here("1.3.0.dev4")) is None


def test_the_newest_that_fits_is_taken_and_the_others_are_told() -> None:
    offers = [offer(9, runtime="7"), offer(8, rollout="0.0"), offer(7), offer(6)]
    blocked = State(blocked={offers[2].digest[:16]: "NaN"})
    taken, passed = choose(offers, "n1", None, blocked, HERE)
    assert taken == offers[3]
    assert passed == [
        "crossing 9.0: needs dat-runtime 7, this is 1.2.0: install that first",
        "crossing 8.0: is for 0% of the nodes, and not yet for this one",
        f"crossing 7.0: is blocked as {offers[2].digest[:16]} (NaN)",
    ]
    assert choose(offers[:3], "n1", None, blocked, HERE) == (None, passed)


def test_nothing_older_than_the_version_at_work_is_taken() -> None:
    assert choose([offer(5), offer(4)], "n1", None, State(), HERE) == (None, [])
    at_work = State(current=offer(6).digest[:16])
    assert choose([offer(6), offer(4)], "n1", None, at_work, Here("1.2.0")) == (None, [])
    assert choose([], "n1", "crossing", State(), HERE) == (None, [])


def test_where_several_bundles_are_offered_one_has_to_be_named() -> None:
    offers = [offer(7, "b"), offer(6, "a")]
    words = "^several are offered, a, b: name one as updates.bundle$"
    with pytest.raises(ValueError, match=words):
        choose(offers, "n1", None, State(), HERE)
    assert choose(offers, "n1", "a", State(), HERE)[0] == offers[1]
    with pytest.raises(ValueError, match=r"^no bundle c is offered, only a, b$"):
        choose(offers, "n1", "c", State(), HERE)


def test_a_version_before_a_word_counts_and_nothing_after_it() -> None:
    assert objection(offered(runtime="1.2"), Here("1.2rc1.9")) is not None
    assert objection(offered(runtime="0.0.1"), Here("0.0")) is not None
    assert objection(offered(runtime="0"), Here("0.0.dev1")) is None
