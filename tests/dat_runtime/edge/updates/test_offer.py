import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.edge.updates.offer import (
    TERMS,
    Offer,
    Target,
    Terms,
    decimal,
    gate_digest,
    offers_in,
    target_path,
)
from dat_runtime.edge.updates.processor import processor_digest
from dat_runtime.errors import DataError
from tests.export.repository.small_repository import FILES, terms

SHA = "a" * 64


def targets(version: str = "1", name: str = "crossing", **changes: object) -> dict[str, Target]:
    """Signed targets of one bundle; `changes` replace terms, or take them away with `...`."""
    custom = {**terms().as_json(), **changes}
    custom = {key: value for key, value in custom.items() if value is not ...}
    found = {}
    for file, content in FILES.items():
        told = custom if file == "manifest.json" else None
        digest = hashlib.sha256(content).hexdigest()
        found[target_path(name, version, file)] = Target(len(content), digest, told)
    return found


def only(found: dict[str, Target]) -> Offer:
    (offer,), refused = offers_in(found)
    assert not refused
    return offer


def refusal(found: dict[str, Target]) -> str:
    offers, (refused,) = offers_in(found)
    assert not offers
    return str(refused)


def test_an_offer_is_what_was_signed() -> None:
    offer = only(targets())
    assert offer.terms == terms()
    assert {file.path for file in offer.files} == set(FILES)
    assert offer.length == sum(map(len, FILES.values()))


def test_the_highest_release_comes_first_whatever_its_version_is_called() -> None:
    found = targets("2.0", release=3) | targets("1.0", release=7) | targets("9", release=1)
    offers, refused = offers_in(found)
    assert [offer.release for offer in offers] == [7, 3, 1]
    assert refused == []


def test_terms_that_a_later_publisher_adds_are_let_pass() -> None:
    assert only(targets(something="more")).terms == terms()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"release": 0}, "crossing/1: custom: release is 0, expected a whole number from 1 to"),
        ({"release": 2**53 + 1}, "release is 9007199254740993"),
        ({"release": True}, "release is True"),
        ({"release": ...}, "release is missing"),
        ({"base": ""}, "base is '', expected 1 to 200 printable characters"),
        ({"base_revision": "a" * 201}, "base_revision is 'aaa"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": "0.0000001"}, "alpha is '0.0000001', expected a text that writes a number from"),
        ({"modules": ["a"] * 257}, "modules is"),
        ({"schema": 0}, "schema is 0"),
        ({"drawing": 0}, "drawing is 0"),
        ({"runtime": "1.2.3.4.5"}, "runtime is '1.2.3.4.5', expected a version such as 0.1.0"),
        ({"metrics": {"": "1"}}, "metrics is"),
        ({"rank": 4096}, "rank is 4096"),
        ({"alpha": "1e9"}, "alpha is '1e9'"),
        ({"alpha": 16.0}, "alpha is 16.0"),
        ({"alpha": "nan"}, "alpha is 'nan'"),
        ({"modules": []}, "modules is"),
        ({"modules": ["q_proj", 3]}, "modules is"),
        ({"base": "a\nb"}, "base is"),
        ({"processor": "A" * 64}, "processor is"),
        ({"gate": "0" * 64}, "its gate's files have the digest"),
        ({"runtime": "1.x"}, "runtime is"),
        ({"rollout": "1.1"}, "rollout is"),
        ({"rollout": "-0.5"}, "rollout is"),
        ({"metrics": {"n": "inf"}}, "metrics is"),
        ({"metrics": {str(i): "1" for i in range(65)}}, "metrics is"),
        ({"prompt": "1"}, "prompt is"),
    ],
)
def test_terms_that_do_not_hold_are_refused_by_name(changes: dict[str, object], words: str) -> None:
    assert words in refusal(targets(**changes))
    assert "crossing/1" in refusal(targets(**changes))


@pytest.mark.parametrize(
    ("path", "target", "words"),
    [
        ("bundles/crossing/1/../../x", Target(1, SHA, None), "no path in a bundle"),
        ("bundles/crossing/1/.hidden", Target(1, SHA, None), "no path in a bundle"),
        ("bundles/crossing/1//x", Target(1, SHA, None), "no path in a bundle"),
        ("bundles/crossing/1/a b", Target(1, SHA, None), "no path in a bundle"),
        ("bundles/crossing/1/x", Target(1, "", None), "x has no sha256"),
        ("bundles/crossing/1/x", Target(1, "A" * 64, None), "x has no sha256"),
        (
            "bundles/crossing/1/x",
            Target((8 << 30) + 1, SHA, None),
            "x has 8,589,934,593 bytes, expected at most 8,589,934,592",
        ),
        ("bundles/crossing/1/x", Target(-1, SHA, None), "x has -1 bytes, expected"),
    ],
)
def test_a_file_that_has_no_place_in_a_bundle_refuses_it(
    path: str, target: Target, words: str
) -> None:
    assert words in refusal(targets() | {path: target})


@pytest.mark.parametrize("name", ["..", "UPPER", "a" * 65, "-a", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    words = "is no name, expected 1 to 64 of a-z 0-9 . _ - that begin with a letter or a digit"
    assert refusal(targets(name=name)) == f"{name}/1: {name!r} {words}"
    assert f"{name!r} {words}" in refusal(targets(name))


def test_what_is_no_bundle_is_named_and_hides_no_bundle() -> None:
    offers, refused = offers_in(
        targets()
        | dict.fromkeys(
            ("readme.txt", "bundles/a/b", "others/a/b", "bundles/x/1/y"), Target(1, SHA, None)
        )
    )
    assert [offer.version for offer in offers] == ["1"]
    assert [str(one) for one in refused] == [
        "'readme.txt' is no file of a bundle: bundles/NAME/VERSION/FILE",
        "'bundles/a/b' is no file of a bundle: bundles/NAME/VERSION/FILE",
        "'others/a/b' is no file of a bundle: bundles/NAME/VERSION/FILE",
        "x/1: has no manifest.json",
    ]


@given(
    st.floats(1e-6, 1e6),
    st.floats(0, 1),
    st.dictionaries(st.sampled_from("abc"), st.floats(-1e9, 1e9)),
)
def test_terms_come_back_as_they_were(
    alpha: float, rollout: float, metrics: dict[str, float]
) -> None:
    told = replace(terms(), alpha=alpha, rollout=rollout, metrics=metrics)
    assert Terms.read(told.as_json()) == told


@given(
    st.dictionaries(
        st.text(max_size=40),
        st.builds(
            Target,
            st.integers(-10, 2**70),
            st.sampled_from([SHA, "", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["release", "gate", "modules", "x"]), inner, max_size=3
                    )
                ),
            ),
        ),
        max_size=5,
    )
)
def test_whatever_was_signed_is_an_offer_or_refused(found: dict[str, Target]) -> None:
    offers, refused = offers_in(found)
    assert bool(found) == bool(offers or refused)


@given(st.sets(st.text(max_size=20), max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_node_that_takes_a_share_takes_every_larger_one(
    nodes: set[str], one: float, other: float
) -> None:
    offer = only(targets())
    few, many = (
        replace(offer, terms=replace(offer.terms, rollout=share)) for share in sorted((one, other))
    )
    assert {n for n in nodes if few.is_for(n)} <= {n for n in nodes if many.is_for(n)}


def test_a_share_is_that_share_of_many_nodes() -> None:
    offer = only(targets(rollout="0.2"))
    taken = sum(offer.is_for(f"node-{i}") for i in range(10_000))
    assert math.isclose(taken, 2000, abs_tol=5 * math.sqrt(10_000 * 0.2 * 0.8))
    everyone = replace(offer, terms=replace(offer.terms, rollout=1.0))
    nobody = replace(offer, terms=replace(offer.terms, rollout=0.0))
    assert all(everyone.is_for(f"node-{i}") for i in range(100))
    assert not any(nobody.is_for(f"node-{i}") for i in range(100))


def test_another_processor_has_another_digest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"preprocessor_config\.json"):
        processor_digest(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"patch_size": 14}')
    first = processor_digest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights do not count")
    assert processor_digest(tmp_path) == first
    (tmp_path / "preprocessor_config.json").write_text('{"patch_size": 16}')
    assert processor_digest(tmp_path) != first


def test_a_gate_s_digest_is_of_its_own_files_in_the_order_of_their_paths() -> None:
    files = {"gate/b": "2" * 64, "adapter/a": "3" * 64, "gate/a": "1" * 64, "gate.txt": "4" * 64}
    content = f"{'1' * 64}  gate/a\n{'2' * 64}  gate/b\n"
    assert gate_digest(files) == hashlib.sha256(content.encode()).hexdigest()


def test_a_bundle_may_have_64_files_and_no_more() -> None:
    more = {f"bundles/crossing/1/f{i}": Target(8 << 30, SHA, None) for i in range(61)}
    whole = targets()
    room = 64 - len(whole)
    assert len(only(whole | dict(list(more.items())[:room])).files) == 64
    words = "crossing/1: 65 files, expected at most 64"
    assert refusal(whole | dict(list(more.items())[: room + 1])) == words


def test_a_decimal_is_a_text_that_writes_a_number_in_its_range() -> None:
    rule = decimal(-1.5, 1e6)
    assert rule.expected == "a text that writes a number from -1.5 to 1e+06"
    for text in ("-1.5", "0", "1e6", "1.25e+3", "-0.0"):
        assert rule.holds(text), text
    for wrong in ("-1.51", "1000000.1", "1e7", "", " 1", "+1", ".5", "1.", "nan", "inf", "1e", 1.0):
        assert not rule.holds(wrong), wrong


def test_a_node_s_share_is_drawn_from_its_name_and_the_version() -> None:
    offer = only(targets())
    drawn = hashlib.sha256(b"n1\ncrossing\n1").digest()
    share = int.from_bytes(drawn[:8], "big") / 2**64
    for rollout, taken in ((share * (1 + 1e-12), True), (share * (1 - 1e-12), False)):
        told = replace(offer, terms=replace(offer.terms, rollout=rollout))
        assert told.is_for("n1") is taken


def test_terms_are_written_as_they_are_signed() -> None:
    told = terms(alpha="16", modules=["a", "b"], metrics={"n": "1e2"}, rollout="0.25").as_json()
    assert (told["alpha"], told["modules"]) == ("16.0", ["a", "b"])
    assert (told["metrics"], told["rollout"]) == ({"n": "100.0"}, "0.25")
    assert list(told) == list(TERMS)
