"""Tests 26 to 29: who has the mirror, or the online key, installs nothing."""

import copy
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from dat_runtime.edge.updates.refusals import (
    ExpiredMetadata,
    UntrustedMetadata,
    UpdateError,
    WrongFile,
)
from export.repository import ceremony, releases
from export.repository.store import content_of
from tests.export.repository.small_repository import FILES, Mirror, SmallRepository, names


@pytest.fixture
def repository(tmp_path: Path) -> SmallRepository:
    made = SmallRepository(tmp_path)
    made.publish("1")
    return made


def test_an_older_timestamp_is_refused(repository: SmallRepository) -> None:
    old = repository.mirror()
    repository.publish("2")
    assert names(repository.client().refresh()) == ["crossing/2", "crossing/1"]
    with pytest.raises(UntrustedMetadata, match="New timestamp version"):
        repository.client(old).refresh()
    assert names(repository.client().refresh()) == ["crossing/2", "crossing/1"]


def test_a_repository_that_is_held_back_turns_stale_and_blocks_updates_only(
    repository: SmallRepository, tmp_path: Path
) -> None:
    running = repository.client()
    (offer,) = running.refresh()
    installed = running.download(offer, tmp_path / "bundle")
    repository.timestamp_until(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2))
    frozen = repository.mirror()
    assert not running.stale
    running.refresh()
    repository.publish("2")
    while not running.stale:
        time.sleep(0.05)
    with pytest.raises(ExpiredMetadata, match=r"timestamp.json is expired"):
        repository.client(frozen).refresh()
    assert {p: (installed / p).read_bytes() for p in FILES} == FILES
    # Once the true repository is reached again all is well.
    assert names(repository.client().refresh()) == ["crossing/2", "crossing/1"]
    assert not running.stale


def test_a_snapshot_of_another_time_is_refused(repository: SmallRepository) -> None:
    old = repository.mirror()
    repository.publish("2")
    mixed = repository.mirror()
    before, now = (said.snapshot_version() for said in (old, mixed))
    mixed.put(f"metadata/{now}.snapshot.json", old.get(f"metadata/{before}.snapshot.json"))
    with pytest.raises((UntrustedMetadata, WrongFile)):
        repository.client(mixed).refresh()


def test_targets_of_another_time_are_refused(repository: SmallRepository) -> None:
    old = repository.mirror()
    repository.publish("2")
    mixed = repository.mirror()
    mixed.put("metadata/3.targets.json", old.get("metadata/2.targets.json"))
    with pytest.raises((UntrustedMetadata, WrongFile)):
        repository.client(mixed).refresh()


# The stolen online key


def as_newest(mirror: Mirror, thief: CryptoSigner, targets: bytes, version: int, by: int) -> None:
    """What the online key can say: these targets are the newest, `by` versions later than now."""
    at = max(1, mirror.snapshot_version() + by)
    meta = {"targets.json": MetaFile.from_data(version, targets, ["sha256"])}
    end = ceremony.until(3000)
    snapshot = Metadata(Snapshot(version=at, expires=end, meta=meta))
    snapshot.sign(thief)
    said = MetaFile.from_data(at, content_of(snapshot), ["sha256"])
    timestamp = Metadata(Timestamp(version=at, expires=end, snapshot_meta=said))
    timestamp.sign(thief)
    mirror.put(f"metadata/{version}.targets.json", targets)
    mirror.put(f"metadata/{at}.snapshot.json", content_of(snapshot))
    mirror.put("metadata/timestamp.json", content_of(timestamp))


def test_the_online_key_cannot_sign_an_offer_of_its_own(repository: SmallRepository) -> None:
    mirror = repository.mirror()
    forged = Metadata.from_bytes(mirror.get("metadata/2.targets.json"))
    forged.signed.version = 3
    evil = TargetFile.from_data("bundles/crossing/9/manifest.json", b"evil", ["sha256"])
    evil.unrecognized_fields["custom"] = next(
        file.custom for file in forged.signed.targets.values() if file.custom
    )
    forged.signed.targets[evil.path] = evil
    forged.sign(repository.online)
    as_newest(mirror, repository.online, content_of(forged), 3, 50)
    with pytest.raises(UntrustedMetadata, match="signed by 0/1 keys"):
        repository.client(mirror).refresh()


def test_the_online_key_cannot_bring_back_what_was_taken_back(repository: SmallRepository) -> None:
    old = repository.mirror()
    repository.publish("2")
    releases.withdraw(repository.store, ("crossing", "1"))
    repository.sign(*repository.targets)
    assert names(repository.client().refresh()) == ["crossing/2"]
    mirror = repository.mirror()
    as_newest(mirror, repository.online, old.get("metadata/2.targets.json"), 2, 50)
    with pytest.raises(UntrustedMetadata, match=r"targets.json version"):
        repository.client(mirror).refresh()
    # Called by the newest version's name, they are not what that version's key signed.
    as_newest(mirror, repository.online, old.get("metadata/2.targets.json"), 9, 51)
    with pytest.raises(UntrustedMetadata, match="Expected targets v9, got v2"):
        repository.client(mirror).refresh()


def test_the_online_key_cannot_swap_a_file(repository: SmallRepository, tmp_path: Path) -> None:
    mirror = repository.mirror()
    client = repository.client(mirror)
    (offer,) = client.refresh()
    mirror.swap_targets()
    with pytest.raises(WrongFile, match="hash"):
        client.download(offer, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_an_offer_without_end_is_bounded(repository: SmallRepository) -> None:
    for name in ("timestamp.json", "2.root.json"):
        mirror = repository.mirror()
        mirror.put(f"metadata/{name}", b" " * 5_000_000)
        with pytest.raises(WrongFile, match="too long"):
            repository.client(mirror).refresh()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 60_000,
        b'{"signed": {"_type": "timestamp", "version": 1e999}, "signatures": []}',
        b'{"signed": null, "signatures": null}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_statement_is_refused_by_name(
    repository: SmallRepository, content: bytes
) -> None:
    mirror = repository.mirror()
    mirror.put("metadata/timestamp.json", content[:16_000])
    with pytest.raises(UntrustedMetadata):
        repository.client(mirror).refresh()


def test_a_fast_forward_is_undone_by_another_online_key(repository: SmallRepository) -> None:
    mirror = repository.mirror()
    targets = mirror.get("metadata/2.targets.json")
    as_newest(mirror, repository.online, targets, 2, 2**40)
    repository.client(mirror).refresh()  # nothing wrong with it but its number
    repository.publish("2")
    with pytest.raises(UntrustedMetadata, match="New timestamp version"):
        repository.client().refresh()
    stolen, repository.online = repository.online, CryptoSigner.generate_ed25519()
    ceremony.rotate(
        repository.store, "online", stolen.public_key.keyid, repository.online.public_key, None
    )
    repository.sign(*repository.root[:2])
    assert names(repository.client().refresh()) == ["crossing/2", "crossing/1"]
    with pytest.raises(UntrustedMetadata):
        repository.client(mirror).refresh()


attempts = st.lists(
    st.tuples(
        st.sampled_from(["signed", "forged", "renamed"]),
        st.integers(1, 4),  # which of the signed targets it begins with
        st.integers(1, 6),  # the version that the snapshot states
        st.integers(-5, 40),  # by how much the versions of snapshot and timestamp are driven up
        st.booleans(),  # whether files are swapped
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    made = SmallRepository(tmp_path_factory.mktemp("history"))
    made.publish("1")
    made.publish("2", FILES | {"manifest.json": b"two"})
    releases.withdraw(made.store, ("crossing", "1"))
    made.sign(*made.targets)
    return made


@given(attempts)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_a_thief_of_the_online_key_installs_nothing(
    history: SmallRepository, tries: list[tuple[str, int, int, int, bool]]
) -> None:
    """Whatever the thief serves, what a node takes was signed offline and is never older."""
    honest = history.mirror()
    signed = {
        version: Metadata[Targets].from_bytes(honest.get(f"metadata/{version}.targets.json"))
        for version in range(1, 5)
    }
    may_be = {v: {o.digest for o in releases.offers_of(m.signed)} for v, m in signed.items()}
    with tempfile.TemporaryDirectory() as folder:
        newest = 0
        for number, (kind, begin, version, by, swaps) in enumerate(tries):
            mirror = history.mirror()
            targets = copy.deepcopy(signed[begin])
            if kind == "forged":
                targets.signed.version = version
                forged = TargetFile.from_data("bundles/x/1/manifest.json", b"evil", ["sha256"])
                targets.signed.targets[forged.path] = forged
                targets.sign(history.online, append=True)
            content = (
                content_of(targets)
                if kind == "forged"
                else honest.get(f"metadata/{begin}.targets.json")
            )
            stated = version if kind == "renamed" else targets.signed.version
            as_newest(mirror, history.online, content, stated, by)
            if swaps:
                mirror.swap_targets()
            client = history.client(mirror, f"{folder}/trusted")
            try:
                offers = client.refresh()
            except UpdateError:
                continue
            taken = Path(folder, "trusted", "targets.json").read_bytes()
            now = Metadata.from_bytes(taken).signed.version
            assert taken == honest.get(f"metadata/{now}.targets.json")
            assert now >= newest
            event(f"{kind}: {'taken' if now > newest else 'the same as before'}")
            newest = now
            assert {offer.digest for offer in offers} == may_be[now]
            for offer in offers:
                into = Path(folder, f"{number}-{offer.version}")
                try:
                    client.download(offer, into)
                except UpdateError:
                    assert swaps
                    assert not into.exists()
                else:
                    assert all((into / f.path).stat().st_size == f.length for f in offer.files)
                    assert (into / "gate/gate.onnx").read_bytes() == FILES["gate/gate.onnx"]


# Thresholds, revocation, root rotation


def test_one_root_key_of_two_changes_nothing(repository: SmallRepository) -> None:
    thief = CryptoSigner.generate_ed25519()
    root = repository.store.root()
    root.signed.version = 2
    root.signed.add_key(thief.public_key, "targets")
    root.signatures.clear()
    for signer in (repository.root[0], repository.online, thief, *repository.targets):
        root.sign(signer, append=True)
    mirror = repository.mirror()
    mirror.put("metadata/2.root.json", content_of(root))
    with pytest.raises(UntrustedMetadata, match="root was signed by 1/2 keys"):
        repository.client(mirror).refresh()


def test_a_root_whose_new_keys_have_not_signed_is_refused(repository: SmallRepository) -> None:
    new = CryptoSigner.generate_ed25519()
    root = repository.store.root()
    root.signed.version = 2
    for old in repository.root:
        root.signed.revoke_key(old.public_key.keyid, "root")
    root.signed.add_key(new.public_key, "root")
    root.signed.roles["root"].threshold = 1
    root.signatures.clear()
    for signer in repository.root:
        root.sign(signer, append=True)
    mirror = repository.mirror()
    mirror.put("metadata/2.root.json", content_of(root))
    with pytest.raises(UntrustedMetadata, match="root was signed by 0/1 keys"):
        repository.client(mirror).refresh()


def test_a_node_of_the_first_root_follows_every_rotation(repository: SmallRepository) -> None:
    for i in range(3):
        old, new = repository.root[i], CryptoSigner.generate_ed25519()
        ceremony.rotate(repository.store, "root", old.public_key.keyid, new.public_key, None)
        signers = [one for one in repository.root if one is not old][:1]
        repository.root[i] = new
        repository.sign(old, new, *signers)
    assert repository.store.root().signed.version == 4
    repository.publish("2")
    assert names(repository.client().refresh()) == ["crossing/2", "crossing/1"]


def test_a_root_is_not_skipped(repository: SmallRepository) -> None:
    for _ in range(2):
        ceremony.rotate(repository.store, "root", None, None, None)
        repository.sign(*repository.root)
    mirror = repository.mirror()
    mirror.put("metadata/2.root.json", mirror.get("metadata/3.root.json"))
    with pytest.raises(UntrustedMetadata, match="version 2"):
        repository.client(mirror).refresh()


def test_a_key_that_was_taken_away_signs_nothing_more(repository: SmallRepository) -> None:
    repository.client().refresh()
    stolen, new = repository.targets[0], CryptoSigner.generate_ed25519()
    ceremony.rotate(repository.store, "targets", stolen.public_key.keyid, new.public_key, None)
    repository.sign(*repository.root[:2])
    # Held until the targets have the new key's signature, so that no node is turned away.
    assert repository.store.root().signed.version == 1
    repository.targets = [new]
    repository.sign(new)
    assert repository.store.root().signed.version == 2
    assert names(repository.client().refresh()) == ["crossing/1"]
    forged = repository.store.newest_targets()
    forged.signed.version += 1
    forged.sign(stolen)
    mirror = repository.mirror()
    as_newest(mirror, repository.online, content_of(forged), forged.signed.version, 50)
    with pytest.raises(UntrustedMetadata, match="signed by 0/1 keys"):
        repository.client(mirror).refresh()


def test_two_of_three_targets_keys_have_to_sign(tmp_path: Path) -> None:
    repository = SmallRepository(tmp_path, targets_keys=3, targets_threshold=2)
    repository.publish("1")
    targets = repository.store.newest_targets()
    targets.signed.version += 1
    targets.sign(repository.targets[0])
    # The same key twice, under two names, is one key still.
    first, second = (one.public_key.keyid for one in repository.targets[:2])
    targets.signatures[second] = Signature(second, targets.signatures[first].signature)
    mirror = repository.mirror()
    as_newest(mirror, repository.online, content_of(targets), targets.signed.version, 50)
    with pytest.raises(UntrustedMetadata, match="signed by 1/2 keys"):
        repository.client(mirror).refresh()
    targets.sign(repository.targets[1], append=True)
    as_newest(mirror, repository.online, content_of(targets), targets.signed.version, 51)
    assert names(repository.client(mirror).refresh()) == ["crossing/1"]


def test_trust_begins_at_the_root_that_came_with_the_node(
    repository: SmallRepository, tmp_path: Path
) -> None:
    other = SmallRepository(tmp_path / "other")
    other.publish("9")
    theirs = {
        url.replace(other.url, repository.url): content
        for url, content in other.mirror().files.items()
    }
    with pytest.raises(UntrustedMetadata, match="timestamp was signed by 0/1 keys"):
        repository.client(Mirror(repository.url, theirs)).refresh()
    # Neither does a cache that somebody filled from elsewhere change it.
    cache = tmp_path / "trusted"
    other.client().refresh()
    shutil.rmtree(cache)
    shutil.copytree(tmp_path / "other" / "trusted", cache)
    assert names(repository.client().refresh()) == ["crossing/1"]
