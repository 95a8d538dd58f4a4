"""Which offer a node takes, and what it says of the others."""

import pytest

from dat_runtime.edge.updates.compatibility import Here, choose, objection
from dat_runtime.edge.updates.offer import Offer, Terms
from dat_runtime.edge.updates.switch import State
from dat_runtime.manifest import VERSIONS
from tests.export.repository.small_repository import terms

HERE = Here("1.2.0", "base", "0" * 40, "1" * 64, release=5)


def offered(**changes: object) -> Terms:
    return terms(**(dict(VERSIONS) | changes))


def offer(release: int, name: str = "crossing", **changes: object) -> Offer:
    told = offered(release=release, **changes)
    return Offer(name, f"{release}.0", release, f"{release:064x}"[::-1], (), told)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"runtime": "1.2"}, None),
        ({"runtime": "1.2.0.0"}, None),
        ({"runtime": "1.10"}, "needs dat-runtime 1.10, this is 1.2.0"),
        ({"prompt": VERSIONS["prompt"] + 1}, "was made with versions prompt"),
        ({"drawing": VERSIONS["drawing"] + 1}, "drawing"),
        ({"base": "other"}, "is for other, revision"),
        ({"base_revision": "2" * 40}, "a new base model is brought by hand"),
        ({"processor": "2" * 64}, "another processor"),
    ],
)
def test_an_offer_that_does_not_fit_is_refused_before_it_is_fetched(
    changes: dict[str, object], words: str | None
) -> None:
    said = objection(offered(**changes), HERE)
    assert said is None if words is None else words in str(said)


def test_what_a_node_does_not_know_is_not_asked() -> None:
    assert objection(offered(base="other", processor="3" * 64), Here("1.2.0")) is None


def test_a_development_version_counts_as_its_release() -> None:
    assert objection(offered(runtime="1.3"), Here("1.3.0.dev4")) is None


def test_the_newest_that_fits_is_taken_and_the_others_are_told() -> None:
    offers = [offer(9, runtime="7"), offer(8, rollout="0.0"), offer(7), offer(6)]
    blocked = State(blocked={offers[2].digest[:16]: "NaN"})
    taken, passed = choose(offers, "n1", None, blocked, HERE)
    assert taken == offers[3]
    assert [words.split(": ")[1][:13] for words in passed] == [
        "needs dat-run",
        "is for 0% of ",
        "is blocked as",
    ]


def test_nothing_older_than_the_version_at_work_is_taken() -> None:
    assert choose([offer(5), offer(4)], "n1", None, State(), HERE) == (None, [])
    at_work = State(current=offer(6).digest[:16])
    assert choose([offer(6), offer(4)], "n1", None, at_work, Here("1.2.0")) == (None, [])
    assert choose([], "n1", "crossing", State(), HERE) == (None, [])


def test_where_several_bundles_are_offered_one_has_to_be_named() -> None:
    offers = [offer(7, "b"), offer(6, "a")]
    with pytest.raises(ValueError, match=r"several are offered, a, b"):
        choose(offers, "n1", None, State(), HERE)
    assert choose(offers, "n1", "a", State(), HERE)[0] == offers[1]
    with pytest.raises(ValueError, match="no bundle c"):
        choose(offers, "n1", "c", State(), HERE)
