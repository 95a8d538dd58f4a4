"""Who may sign what, what waits for signatures, and what the online key says of it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from dat_runtime.errors import ConfigError, DataError
from export.repository import ceremony, online, releases, report, store
from export.repository.ceremony import DAYS, until
from export.repository.store import Missing, Store, content_of
from tests.export.repository.small_repository import FILES, SmallRepository, terms, write


@pytest.fixture
def repository(tmp_path: Path) -> SmallRepository:
    return SmallRepository(tmp_path)


def signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def keys(root: int = 1, targets: int = 1, online: int = 1) -> dict[str, list[Any]]:
    counts = {"root": root, "targets": targets, "online": online}
    return {role: [signer().public_key for _ in range(count)] for role, count in counts.items()}


ONE = {"root": 1, "targets": 1, "online": 1}


def days_until(end: datetime) -> int:
    return round((end - datetime.now(UTC)) / timedelta(days=1))


def made(folder: Path) -> Store:
    there = Store(folder)
    there.metadata.mkdir(parents=True)
    return there


def test_a_first_root_states_who_signs_and_for_how_long(tmp_path: Path) -> None:
    there, public = made(tmp_path / "site"), keys(3, 2, 1)
    days = {"root": 100, "targets": 50, "snapshot": 10, "timestamp": 2}
    ceremony.begin(there, public, {"root": 2, "targets": 2, "online": 1}, days)
    root = there.waiting("root")
    assert root is not None
    signed: Root = root.signed
    assert (signed.version, signed.consistent_snapshot) == (1, True)
    assert days_until(signed.expires) == 100
    assert signed.expires.microsecond == 0
    assert signed.unrecognized_fields == {"x-dat-days": days}
    for name, role in (("root", "root"), ("targets", "targets"), ("snapshot", "online")):
        assert signed.roles[name].keyids == [key.keyid for key in public[role]]
    assert signed.roles["timestamp"].keyids == signed.roles["snapshot"].keyids
    assert [signed.roles[name].threshold for name in ("root", "targets", "timestamp")] == [2, 2, 1]
    targets = there.waiting("targets")
    assert targets is not None
    assert (targets.signed.version, days_until(targets.signed.expires)) == (1, 50)
    assert targets.signed.targets == {}
    words = rf"^{there.folder} is a repository already$"
    with pytest.raises(ConfigError, match=words):
        ceremony.begin(there, public, ONE, DAYS)
    (there.staged / "root.json").unlink()
    (there.metadata / "1.root.json").touch()
    with pytest.raises(ConfigError, match=words):
        ceremony.begin(there, public, ONE, DAYS)


@pytest.mark.parametrize(
    ("role", "threshold", "words"),
    [
        ("root", 0, "root has 1 keys, of which 0 have to sign"),
        ("root", 2, "root has 1 keys, of which 2 have to sign"),
        ("targets", 2, "targets has 1 keys, of which 2 have to sign"),
        ("online", 2, "(snapshot|timestamp) has 1 keys, of which 2 have to sign"),
    ],
)
def test_a_role_needs_as_many_keys_as_have_to_sign(
    tmp_path: Path, role: str, threshold: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{words}$"):
        ceremony.begin(made(tmp_path / "site"), keys(), ONE | {role: threshold}, DAYS)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_an_online_key_signs_nothing_offline(tmp_path: Path, role: str) -> None:
    public = keys()
    public[role] = [*public["online"], *public[role]]
    short = public["online"][0].keyid[:8]
    words = f"key {short} would be online and of {role}: who steals it could install anything"
    with pytest.raises(ConfigError, match=f"^{words}$"):
        ceremony.begin(made(tmp_path / "site"), public, ONE, DAYS)


def test_a_key_is_replaced_and_the_root_s_time_renewed(repository: SmallRepository) -> None:
    old, new = repository.root[0].public_key, signer()
    ceremony.rotate(repository.store, "root", old.keyid, new.public_key, 1)
    waiting = repository.store.waiting("root")
    assert waiting is not None
    root: Root = waiting.signed
    assert (root.version, days_until(root.expires)) == (2, DAYS["root"])
    others = [one.public_key.keyid for one in repository.root[1:]]
    assert root.roles["root"].keyids == [*others, new.public_key.keyid]
    assert root.roles["root"].threshold == 1
    assert repository.store.waiting("targets") is None
    assert repository.store.root().signed.version == 1
    words = "an earlier change waits for signatures: sign it (python -m export.publish sign), or"
    with pytest.raises(ConfigError, match=re.escape(words) + " remove the file$") as refusal:
        ceremony.rotate(repository.store, "root", None, None, None)
    assert str(refusal.value).startswith(f"{repository.store.staged}/root.json: ")


def test_a_key_that_is_none_of_a_role_cannot_go(repository: SmallRepository) -> None:
    own = repository.online.public_key.keyid
    other = repository.root[0].public_key.keyid
    words = f"^{other} is no key of online, {own[:8]} are$"
    with pytest.raises(ConfigError, match=words):
        ceremony.rotate(repository.store, "online", other, None, None)


def test_other_keys_of_the_targets_need_the_targets_signed_again(
    repository: SmallRepository,
) -> None:
    repository.publish("1")
    new = signer()
    ceremony.rotate(repository.store, "targets", None, new.public_key, None)
    assert repository.store.waiting("targets") is None  # the old key may still sign
    repository.sign(*repository.root[:2])
    old = repository.targets[0].public_key.keyid
    ceremony.rotate(repository.store, "targets", old, None, None)
    targets = repository.store.waiting("targets")
    assert targets is not None
    assert (targets.signed.version, targets.signatures) == (3, {})
    assert days_until(targets.signed.expires) == DAYS["targets"]
    published = repository.store.newest_targets()
    assert published is not None
    assert targets.signed.targets == published.signed.targets
    root = sorted(one.public_key.keyid for one in repository.root)
    assert [str(one) for one in repository.store.missing()] == [
        f"root waits for 2 more of the keys {', '.join(id[:8] for id in root)}",
        f"targets waits for 1 more of the keys {new.public_key.keyid[:8]}",
    ]
    repository.sign(*repository.root[:2])
    assert repository.store.root().signed.version == 2  # it waits for the targets
    repository.sign(new)
    assert repository.store.root().signed.version == 3
    assert repository.store.missing() == []


def test_a_root_with_other_root_keys_waits_for_those_of_today_and_to_come(
    repository: SmallRepository,
) -> None:
    first, *others = repository.root
    new = signer()
    ceremony.rotate(repository.store, "root", first.public_key.keyid, new.public_key, None)
    assert {(one.role, one.signatures, one.by) for one in repository.store.missing()} == {
        ("root", 2, tuple(sorted(one.public_key.keyid for one in keys)))
        for keys in ([first, *others], [*others, new])
    }
    repository.sign(first, new)
    assert len(repository.store.missing()) == 1  # one signature does for both
    repository.sign(others[0])
    assert repository.store.root().signed.version == 2


def test_targets_are_renewed_alone(repository: SmallRepository) -> None:
    ceremony.rotate(repository.store, "targets", None, None, None)
    assert repository.store.waiting("root") is None
    targets = repository.store.waiting("targets")
    assert targets is not None
    assert targets.signed.version == 2


def test_a_store_without_a_root_or_targets_says_so(tmp_path: Path) -> None:
    there = made(tmp_path / "site")
    words = f"{there.staged}/root.json: {there.folder} has no root yet: its first one has to be"
    with pytest.raises(ConfigError, match=f"^{re.escape(words)} signed$"):
        there.root()
    with pytest.raises(ConfigError, match=rf"^{there.folder} has no signed targets yet$"):
        ceremony.renewed_targets(there)
    assert (there.timestamp(), there.seen_targets(), there.newest_targets()) == (None, None, None)
    assert there.missing() == []


def test_days_that_a_root_does_not_state_are_asked_for(repository: SmallRepository) -> None:
    root: Root = repository.store.root().signed
    assert ceremony.days_of(root) == DAYS
    root.unrecognized_fields["x-dat-days"] = DAYS | {"root": 3651}
    words = "the root was not made by export.publish: x-dat-days: root is 3651, expected a whole"
    with pytest.raises(ConfigError, match=f"^{words} number from 1 to 3,650$"):
        ceremony.days_of(root)
    root.unrecognized_fields.clear()
    with pytest.raises(ConfigError, match="x-dat-days: None is not an object"):
        ceremony.days_of(root)


# The folder


def test_one_command_at_a_time_works_on_a_repository(tmp_path: Path) -> None:
    there = Store(tmp_path / "a" / "site")
    words = rf"^{there.folder} is no repository: python -m export\.publish init$"
    with pytest.raises(ConfigError, match=words), there.locked():
        pass
    with there.locked(new=True):
        busy = rf"^another command is at work on {there.folder}$"
        with pytest.raises(ConfigError, match=busy), Store(there.folder).locked():
            pass
    with there.locked(), pytest.raises(ConfigError, match="another"), there.locked(new=True):
        pass
    assert sorted(p.name for p in there.folder.iterdir()) == [".lock", "metadata"]


def test_what_waits_is_signed_by_those_who_may_and_published_when_all_have(
    tmp_path: Path,
) -> None:
    there, root, other = made(tmp_path / "site"), [signer(), signer()], signer()
    targets, online_key = signer(), signer()
    public = {
        "root": [one.public_key for one in root],
        "targets": [targets.public_key],
        "online": [online_key.public_key],
    }
    ceremony.begin(there, public, {"root": 2, "targets": 1, "online": 1}, DAYS)
    assert there.sign([other, online_key]) == set()
    assert there.missing() == [
        Missing("root", 2, tuple(sorted(one.public_key.keyid for one in root))),
        Missing("targets", 1, (targets.public_key.keyid,)),
    ]
    assert there.sign([root[0], targets]) == {one.public_key.keyid for one in (root[0], targets)}
    assert there.missing() == [Missing("root", 1, (root[1].public_key.keyid,))]
    assert there.settle() == []
    assert there.sign([root[1]]) == {root[1].public_key.keyid}
    assert there.settle() == ["root 1", "targets 1"]
    assert list(there.staged.iterdir()) == []
    names = ["1.root.json", "1.targets.json"]
    assert sorted(p.name for p in there.metadata.iterdir()) == names


def test_the_newest_is_the_highest_number(repository: SmallRepository) -> None:
    there = repository.store
    for name in ("10.targets.json", "9.targets.json", "011.targets.json", "x12.targets.json"):
        (there.metadata / name).write_bytes((there.metadata / "1.targets.json").read_bytes())
    assert there._newest("targets") == 10
    assert there._versions("targets") == [1, 9, 10]


def test_what_is_no_metadata_is_named(repository: SmallRepository) -> None:
    path = repository.store.metadata / "2.root.json"
    path.write_text("{}")
    with pytest.raises(DataError, match=rf"^{path}: is no TUF metadata \(.+\)$"):
        repository.store.root()
    path.write_bytes(bytes(store.MOST_BYTES + 1))
    with pytest.raises(DataError, match=f"^{path}: larger than 8,000,000 bytes$"):
        repository.store.root()


def test_metadata_is_written_compact(repository: SmallRepository) -> None:
    content = content_of(repository.store.root())
    assert b": " not in content
    assert content == repository.first_root


# The online key


def test_a_refresh_names_the_newest_for_as_long_as_the_root_states(
    repository: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.publish("1")
    now = 4_000_000_000.9
    monkeypatch.setattr(online.time, "time", lambda: now)
    assert online.refresh(repository.store, [repository.online]) == 4_000_000_000
    timestamp = repository.store.timestamp()
    assert timestamp is not None
    snapshot = repository.store.snapshot(4_000_000_000)
    assert timestamp.signed.snapshot_meta.version == snapshot.signed.version == 4_000_000_000
    assert days_until(timestamp.signed.expires) == DAYS["timestamp"]
    assert days_until(snapshot.signed.expires) == DAYS["snapshot"]
    targets = repository.store.newest_targets()
    assert targets is not None
    named = snapshot.signed.meta["targets.json"]
    assert (named.version, named.length) == (targets.signed.version, len(content_of(targets)))
    assert timestamp.signed.snapshot_meta.length == len(content_of(snapshot))
    assert set(named.hashes) == set(timestamp.signed.snapshot_meta.hashes) == {"sha256"}
    assert online.refresh(repository.store, [repository.online], 60) == 4_000_000_001
    timestamp = repository.store.timestamp()
    assert timestamp is not None
    assert days_until(timestamp.signed.expires) == 60
    assert days_until(repository.store.snapshot(4_000_000_001).signed.expires) == 60


def test_a_key_that_is_not_online_refreshes_nothing(repository: SmallRepository) -> None:
    other = repository.targets[0]
    words = f"^{other.public_key.keyid[:8]} is no online key of the repository$"
    with pytest.raises(ConfigError, match=words):
        online.refresh(repository.store, [repository.online, other])
    with pytest.raises(
        ConfigError, match=r"^timestamp needs 1 online keys to sign$|^snapshot need"
    ):
        online.refresh(repository.store, [])


def test_targets_without_their_signatures_are_not_named(repository: SmallRepository) -> None:
    path = repository.store.metadata / "2.targets.json"
    path.write_bytes(content_of(Metadata(Targets(version=2, expires=until(1)))))
    words = "^the newest targets do not have their signatures: sign them first$"
    with pytest.raises(ConfigError, match=words):
        online.refresh(repository.store, [repository.online])
    for file in repository.store.metadata.glob("*.targets.json"):
        file.unlink()
    with pytest.raises(ConfigError, match=words):
        online.refresh(repository.store, [repository.online])


def test_ten_snapshots_are_kept(repository: SmallRepository) -> None:
    for _ in range(12):
        repository.refresh()
    assert len(repository.store._versions("snapshot")) == 10
    repository.store.forget_snapshots(3)
    assert len(repository.store._versions("snapshot")) == 3


# What is told of it


def test_a_report_names_keys_statements_and_releases(repository: SmallRepository) -> None:
    def short(*signers: CryptoSigner) -> str:
        return " ".join(one.public_key.keyid[:8] for one in signers)

    ends = {}

    def line(role: str, version: int, statement: Metadata[Any]) -> str:
        ends[role] = f"{statement.signed.expires:%Y-%m-%d %H:%M} UTC"
        return f"{role:<10} version {version:<5} until {ends[role]}"

    there = repository.store
    told = list(report.lines(there))
    timestamp = there.timestamp()
    assert timestamp is not None
    targets = there.newest_targets()
    assert targets is not None
    version = timestamp.signed.version
    assert told == [
        f"root       2 of 3 keys: {short(*repository.root)}",
        f"targets    1 of 1 keys: {short(*repository.targets)}",
        f"online     1 of 1 keys: {short(repository.online)}",
        "",
        line("root", 1, there.root()),
        line("timestamp", version, timestamp),
        line("snapshot", version, there.snapshot(version)),
        line("targets", 1, targets),
        "",
        "no release",
    ]
    assert report.problems(there) == []
    repository.publish("1", rollout="0.25")
    size = sum(map(len, FILES.values()))
    assert list(report.lines(there))[-1] == (
        f"release 2    crossing/1: 25% of the nodes, {size:,} bytes, for base"
    )
    ceremony.rotate(there, "targets", None, None, None)
    there.sign(repository.targets)
    there.settle()
    unseen = "targets    version 3     nodes see it after: python -m export.publish refresh"
    assert unseen in list(report.lines(there))


def test_what_nodes_would_refuse_is_told_with_what_to_do(repository: SmallRepository) -> None:
    there = repository.store
    (there.metadata / "timestamp.json").unlink()
    refresh = "python -m export.publish refresh"
    assert report.problems(there) == [f"there is no timestamp: {refresh}"]
    assert list(report.lines(there))[-3].startswith("targets    version 1     nodes see it")
    repository.refresh()
    repository.timestamp_until(until(-1))
    assert report.problems(there) == [f"timestamp has expired: {refresh}"]
    repository.refresh()
    root = there.root()
    root.signed.expires = until(-1)
    there.publish(root)
    assert report.problems(there)[0] == ("root has expired: python -m export.publish rotate root")


def test_signatures_of_keys_that_are_gone_do_not_count(repository: SmallRepository) -> None:
    there, refresh = repository.store, "python -m export.publish refresh"
    few = "has too few signatures of today's keys: "
    old, new = repository.online, signer()
    ceremony.rotate(there, "online", old.public_key.keyid, new.public_key, None)
    repository.online = new
    there.sign(repository.root[:2])
    there.settle()
    assert report.problems(there) == [
        f"timestamp {few}{refresh}",
        f"snapshot {few}{refresh}",
    ]
    repository.refresh()
    assert report.problems(there) == []
    targets = there.newest_targets()
    assert targets is not None
    targets.signatures.clear()
    there.publish(targets)
    assert report.problems(there) == [f"targets {few}python -m export.publish rotate targets"]
    targets.signed.version += 1  # nodes are told of the one before
    targets.sign(repository.targets[0])
    there.publish(targets)
    assert report.problems(there) == [f"targets {few}{refresh}"]
    root = there.root()
    root.signatures.clear()  # of a root that is there, nobody asks again
    there.publish(root)
    assert report.problems(there) == [f"targets {few}{refresh}"]
    (there.metadata / "timestamp.json").unlink()
    assert report.problems(there) == [f"there is no timestamp: {refresh}"]


# Releases


@pytest.mark.parametrize("text", ["a", "a/", "/1", "A/1", "a/1/2", "", "a/B"])
def test_a_release_is_a_name_and_a_version(text: str) -> None:
    assert releases.release_name("a/1.2.0") == ("a", "1.2.0")
    words = f"{text!r} is no release, expected NAME/VERSION such as crossing/1.2.0, each half 1 to"
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}"):
        releases.release_name(text)


def test_a_release_s_files_lie_under_their_digests_and_are_named(
    repository: SmallRepository, tmp_path: Path
) -> None:
    repository.publish("1")
    targets = repository.store.newest_targets()
    assert targets is not None
    there = repository.store.targets
    files = sorted(p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file())
    assert len(files) == len(FILES)
    for path, content in FILES.items():
        file = targets.signed.targets[f"bundles/crossing/1/{path}"]
        (name,) = file.get_prefixed_paths()
        assert name in files
        assert (there / name).read_bytes() == content
        assert set(file.hashes) == {"sha256"}
        assert (file.custom is not None) is (path == "manifest.json")
    told = terms(release=2)
    words = "^crossing/1 is published already: give the bundle another version$"
    with pytest.raises(ConfigError, match=words):
        releases.add(repository.store, ("crossing", "1"), tmp_path, told)
    gone = releases.withdraw(repository.store, ("crossing", "1"))
    assert sorted(gone) == files
    assert all((there / file).is_file() for file in files)
    repository.sign(*repository.targets)
    for call in (
        lambda: releases.withdraw(repository.store, ("crossing", "1")),
        lambda: releases.set_rollout(repository.store, ("crossing", "1"), 0.5),
    ):
        with pytest.raises(ConfigError, match=r"^crossing/1 is not published$"):
            call()


def test_a_share_changes_nothing_else(repository: SmallRepository) -> None:
    told = repository.publish("1")
    repository.publish("2")
    for share in (0.0, 0.25, 1.0):
        releases.set_rollout(repository.store, ("crossing", "1"), share)
        repository.sign(*repository.targets)
        newest = repository.store.newest_targets()
        assert newest is not None
        two, one = releases.offers_of(newest.signed)
        assert (two.terms.rollout, one.terms.rollout) == (1.0, share)
        assert one.terms.release == told.release
    words = r"^a share of 1\.5, expected a number from 0 to 1$"
    with pytest.raises(ConfigError, match=words):
        releases.set_rollout(repository.store, ("crossing", "1"), 1.5)


def test_a_file_that_changes_while_it_is_read_is_not_published(
    repository: SmallRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write(tmp_path / "bundle", FILES)

    def copied(source: Path, to: Path) -> None:
        to.write_bytes(b"changed")

    monkeypatch.setattr(releases.shutil, "copyfile", copied)
    told = terms(release=releases.next_release(repository.store))
    first = bundle / "adapter" / "adapter_model.safetensors"
    with pytest.raises(ConfigError, match=f"^{first}: changed while it was read$"):
        releases.add(repository.store, ("crossing", "1"), bundle, told)
    assert [p for p in repository.store.targets.rglob("*") if p.is_file()] == []
    assert repository.store.waiting("targets") is None
