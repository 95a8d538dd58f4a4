import argparse
import json
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dat_runtime import __version__
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.updates.refusals import ExpiredMetadata, UntrustedMetadata
from dat_runtime.edge.updates.repository import Repository
from dat_runtime.errors import ConfigError
from dat_runtime.manifest import digest
from export.publish import _days, _parser, main
from export.repository.ceremony import DAYS, until
from export.repository.keys import read_private
from export.repository.store import Store

PHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def ceremony(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase, and the working folder in which keys and repository lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAT_PASSPHRASE", PHRASE)


@pytest.fixture
def to_ship(bundle_folder: Path, base_folder: Path) -> Path:
    """A bundle, with scores beside it and a processor in its base."""
    (base_folder / "preprocessor_config.json").write_text('{"patch_size": 14}')
    scores = {"n": 40, "missing": 0, "sev_f1": {"value": 0.9, "low": 0.8, "high": 1.0}}
    scores["bbox_miou"] = {"value": None, "low": None, "high": None}
    Path("scores.json").write_text(json.dumps(scores))
    return bundle_folder


def publish(*words: str) -> int:
    return main([word for one in words for word in one.split()])


def make_keys(*names: str) -> None:
    for name in names:
        assert publish(f"key {name}.pem") == 0


def begin(keys: str = "root-1.pem root-2.pem targets.pem online.pem") -> None:
    make_keys("root-1", "root-2", "root-3", "targets", "online")
    assert (
        publish(
            "init --repository site --root root-1.pub root-2.pub root-3.pub",
            f"--targets targets.pub --online online.pub --key {keys}",
        )
        == 0
    )


ADD = "add bundle --base base --scores scores.json --repository site"


def client() -> Repository:
    return Repository("site", Path("site/metadata/1.root.json"), Path("trusted"))


def offered() -> list[str]:
    return [f"{o.name}/{o.version} {o.release} {o.terms.rollout:g}" for o in client().refresh()]


def test_an_operator_goes_from_the_ceremony_to_a_replaced_key(
    to_ship: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    assert publish(ADD, "--as crossing/1.0.0 --rollout 0.25 --key targets.pem online.pem") == 0
    assert offered() == ["crossing/1.0.0 2 0.25"]
    assert publish("rollout crossing/1.0.0 1 --repository site --key targets.pem online.pem") == 0
    assert offered() == ["crossing/1.0.0 2 1"]
    make_keys("targets-new", "online-new")
    rotate = "--repository site --key root-1.pem root-3.pem"
    targets = "rotate targets --old targets.pub --new targets-new.pub"
    assert publish(f"{targets} {rotate} targets-new.pem online.pem") == 0
    assert publish(f"rotate online --old online.pub --new online-new.pub {rotate}") == 0
    assert publish("status --repository site") == 1
    assert "timestamp has too few signatures" in capsys.readouterr().out
    assert publish("refresh --repository site --key online-new.pem") == 0
    assert publish("status --repository site") == 0
    assert offered() == ["crossing/1.0.0 2 1"]
    assert publish("revoke crossing/1.0.0 --repository site --key targets-new.pem") == 0
    assert publish("refresh --repository site --key online-new.pem") == 0
    assert offered() == []
    # A later release has a higher number than any before, whatever was taken back.
    assert publish(ADD, "--as crossing/1.0.1 --key targets-new.pem online-new.pem") == 0
    assert offered() == ["crossing/1.0.1 6 1"]


def test_a_published_bundle_is_the_one_that_opens_at_the_node(to_ship: Path) -> None:
    begin()
    assert publish(ADD, "--as crossing/1.0.0 --key targets.pem online.pem") == 0
    repository = client()
    (offer,) = repository.refresh()
    bundle = open_bundle(repository.download(offer, Path("at-the-node")))
    assert bundle.manifest == open_bundle(to_ship).manifest
    terms = offer.terms
    assert (terms.base, terms.base_revision) == ("base", bundle.manifest.config["revision"])
    assert (terms.rank, terms.alpha, terms.modules) == (2, 4.0, ("q_proj",))
    assert terms.metrics == {"n": 40, "missing": 0, "sev_f1": 0.9}
    assert offer.digest == digest(to_ship / "manifest.json")


def test_several_people_sign_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    begin("root-1.pem targets.pem")
    assert "root waits for 1 more" in capsys.readouterr().out
    assert not list(Path("site/metadata").iterdir())
    assert publish("sign --repository site --key online.pem") == 0
    assert publish("sign --repository site --key root-3.pem") == 0
    assert publish("refresh --repository site --key online.pem") == 0
    assert offered() == []


def test_a_refresh_needs_no_offline_key_and_changes_no_offer(to_ship: Path) -> None:
    begin()
    assert publish(ADD, "--as crossing/1.0.0 --key targets.pem online.pem") == 0
    before, offline = offered(), {p.name for p in Path("site/metadata").glob("*.*.json")}
    shutil.rmtree("site/staged")
    for _ in range(12):
        assert publish("refresh --repository site --key online.pem") == 0
    files = {p.name for p in Path("site/metadata").glob("*.*.json")}
    assert {name for name in offline if "snapshot" not in name} <= files
    assert sum("snapshot" in name for name in files) == 10
    assert offered() == before


def test_a_server_that_lost_its_folder_goes_on(to_ship: Path) -> None:
    begin()
    assert publish(ADD, "--as crossing/1.0.0 --key targets.pem online.pem") == 0
    seen = offered()
    newest = json.loads(Path("site/metadata/timestamp.json").read_text())["signed"]["version"]
    while time.time() < newest + 1:  # it was signed more than once in a second
        time.sleep(0.05)
    for written in Path("site/metadata").iterdir():
        if written.name.endswith(("snapshot.json", "timestamp.json")):
            written.unlink()
    assert publish("refresh --repository site --key online.pem") == 0
    assert offered() == seen


def test_a_stick_that_travels_long_gets_a_longer_time() -> None:
    begin()
    assert publish("refresh --days 60 --repository site --key online.pem") == 0
    client().refresh()
    end = client().expires
    assert end is not None
    timestamp = json.loads(Path("site/metadata/timestamp.json").read_text())["signed"]
    assert (end - end.fromisoformat(timestamp["expires"])).days == 0


def test_status_says_what_has_expired(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert publish("status --repository site") == 0
    store = Store(Path("site"))
    timestamp = store.timestamp()
    timestamp.signed.expires = until(-1)
    timestamp.sign(read_private(Path("online.pem")))
    store.publish(timestamp)
    assert publish("status --repository site") == 1
    assert "timestamp has expired: python -m export.publish refresh" in capsys.readouterr().out
    with pytest.raises(ExpiredMetadata):
        client().refresh()


def test_status_says_what_nodes_are_not_told_of_yet(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    make_keys("new")
    rotate = "rotate targets --repository site --key"
    assert publish(rotate, "new.pem root-1.pem root-3.pem --old targets.pub --new new.pub") == 0
    assert publish("status --repository site") == 1
    said = capsys.readouterr().out
    assert "targets has too few signatures of today's keys: python -m export.publish refr" in said
    with pytest.raises(UntrustedMetadata, match="targets was signed by 0/1 keys"):
        client().refresh()
    assert publish("refresh --repository site --key online.pem") == 0
    assert publish(rotate, "new.pem") == 0
    # Nodes have the signed ones before, and are content.
    assert publish("status --repository site") == 0
    assert "targets    version 3     nodes see it after" in capsys.readouterr().out
    assert offered() == []


def test_a_private_key_is_encrypted_and_its_owners_alone() -> None:
    make_keys("a")
    assert stat.S_IMODE(Path("a.pem").stat().st_mode) == 0o600
    assert "ENCRYPTED" in Path("a.pem").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("key root-1.pem", "never overwritten"),
        ("key no/such/folder.pem", "cannot be written"),
        ("status --repository nothing", "is no repository"),
        ("sign --repository site --key root-1.pem", "nothing waits"),
        ("refresh --repository site --key targets.pem", "is no online key"),
        ("refresh --repository site --key root-1.pub", "is no encrypted private key"),
        ("refresh --repository site --key absent.pem", "absent.pem"),
        ("refresh --days 0 --repository site --key online.pem", "--days 0"),
        ("revoke crossing/1 --repository site --key targets.pem", "is not published"),
        ("revoke crossing --repository site --key targets.pem", "NAME/VERSION"),
        ("rollout crossing/1 2 --repository site --key targets.pem", "a share of 2"),
        ("rotate root --old online.pub --repository site", "is no key of root"),
        ("rotate targets --old targets.pub --repository site", "has 0 keys, of which 1"),
        ("rotate targets --new online.pub --repository site", "could install anything"),
        ("rotate root --threshold 4 --repository site", "has 3 keys, of which 4"),
        ("rotate root --new online.pem --repository site", "name the .pub file"),
        (
            "init --repository site --root root-1.pub --targets targets.pub --online online.pub",
            "is a repository already",
        ),
        (
            "init --repository b --root root-1.pub --targets root-2.pub --online root-1.pub",
            "could install anything",
        ),
        (
            "init --repository b --root root-1.pub --targets root-2.pub --online online.pub "
            "--days timestamp=never",
            "--days timestamp=never",
        ),
        (f"{ADD} --as Crossing/1", "NAME/VERSION"),
        (f"{ADD} --as crossing/1 --rollout 1.5", "--rollout 1.5"),
        (f"{ADD} --as crossing/1 --runtime new", "--runtime new"),
        (f"{ADD} --as crossing/1", "bundle"),
    ],
)
def test_a_mistake_is_named_in_a_line_and_changes_nothing(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    before = {p: p.read_bytes() for p in Path("site").rglob("*.json")}
    capsys.readouterr()
    assert publish(words) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert {p: p.read_bytes() for p in Path("site").rglob("*.json")} == before


def test_a_wrong_passphrase_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    monkeypatch.setenv("DAT_PASSPHRASE", "wrong horse battery")
    assert publish("refresh --repository site --key online.pem") == 1
    assert "another passphrase" in capsys.readouterr().err
    monkeypatch.setenv("DAT_PASSPHRASE", "short")
    assert publish("key short.pem") == 1
    assert "expected 12 or more" in capsys.readouterr().err
    assert not Path("short.pem").exists()


def test_a_second_change_waits_for_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert publish("rotate root --repository site --key root-1.pem") == 0
    assert publish("rotate targets --repository site --key targets.pem") == 1
    assert "an earlier change waits for signatures" in capsys.readouterr().err
    assert publish("status --repository site") == 0
    assert "staged: root waits for 1 more of the keys" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda bundle: (bundle / "gate/gate.onnx").write_bytes(b"x"), "gate.onnx"),
        (lambda bundle: (bundle / "run.py").write_text("x"), "does not belong"),
        (lambda bundle: Path("scores.json").write_text("{}"), "has no n"),
        (lambda bundle: Path("scores.json").write_text('{"n": NaN}'), "is not JSON"),
        (lambda bundle: Path("scores.json").write_text('{"n": "many"}'), "n is 'many'"),
        (lambda bundle: Path("base/preprocessor_config.json").unlink(), "preprocessor_config"),
        (lambda bundle: shutil.rmtree("base"), "neither a folder nor the bundle's base"),
        (
            lambda bundle: Path("base/manifest.json").unlink(),
            "is another base than the bundle's",
        ),
    ],
)
def test_a_bundle_that_is_not_what_it_says_is_not_published(
    to_ship: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    says: str,
) -> None:
    begin()
    change(to_ship)
    assert publish(ADD, "--as crossing/1 --key targets.pem online.pem") == 1
    assert says in capsys.readouterr().err
    assert offered() == []


def test_a_version_is_published_once(to_ship: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert publish(ADD, "--as crossing/1 --key targets.pem online.pem") == 0
    assert publish(ADD, "--as crossing/1 --key targets.pem online.pem") == 1
    assert "is published already" in capsys.readouterr().err


def test_two_commands_do_not_work_on_a_repository_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin()
    with Store(Path("site")).locked():
        assert publish("refresh --repository site --key online.pem") == 1
    assert "another command is at work" in capsys.readouterr().err


def test_a_key_with_nothing_to_sign_is_said_and_the_change_goes_on_waiting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin()
    make_keys("strange")
    assert publish("rotate root --repository site --key root-1.pem strange.pem") == 1
    assert "has nothing to sign here" in capsys.readouterr().err
    assert publish("sign --repository site --key root-2.pem root-3.pem") == 0
    assert "root 2 is published" in capsys.readouterr().out


def test_a_new_root_waits_for_enough_of_the_old_keys(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    make_keys("root-4")
    rotate = "rotate root --old root-1.pub --new root-4.pub --repository site"
    assert publish(rotate, "--key root-2.pem root-4.pem") == 0
    assert "root waits for 1 more of the keys" in capsys.readouterr().out
    assert not Path("site/metadata/2.root.json").exists()
    assert publish("sign --repository site --key root-1.pem") == 0
    assert Path("site/metadata/2.root.json").exists()


OPTIONS = """\
key: make a key: FILE (encrypted) and its .pub
  file Path required: None
init: begin a repository: its first root, and no release
  --repository Path DIR required: None
  --key Path PEM * = []: keys to sign with
  --root Path PUB + required: keys that decide on keys; keep them offline
  --targets Path PUB + required: keys that sign releases; keep them offline
  --online Path PUB + required: keys that sign snapshot and timestamp
  --root-threshold int: default: more than half of them
  --targets-threshold int = 1: None
  --days str ROLE=N + = []: how long statements hold, default root=365 targets=180 snapshot=14 \
timestamp=3
add: publish a bundle
  --repository Path DIR required: None
  --key Path PEM * = []: keys to sign with
  bundle Path required: folder made by export.bundle
  --as str NAME/VERSION required: None
  --base str required: the base model: its folder or its hub name
  --scores Path required: scores.json of the adapter
  --rollout float = 1.0: share of the nodes, default 1
  --runtime str = RUNTIME: earliest dat-runtime, default RUNTIME
rollout: give a release to another share of the nodes
  --repository Path DIR required: None
  --key Path PEM * = []: keys to sign with
  release str NAME/VERSION required: None
  share float required: from 0 to 1
revoke: take a release back: no node installs it any more
  --repository Path DIR required: None
  --key Path PEM * = []: keys to sign with
  release str NAME/VERSION required: None
rotate: replace, add or remove a key; with none, renew the role
  --repository Path DIR required: None
  --key Path PEM * = []: keys to sign with
  role str required: None
  --old Path PUB: the key that goes
  --new Path PUB: the key that comes
  --threshold int: how many have to sign from now on
sign: sign the change that waits
  --repository Path DIR required: None
  --key Path PEM + = []: keys to sign with
refresh: sign snapshot and timestamp anew (for cron)
  --repository Path DIR required: None
  --key Path PEM + = []: keys to sign with
  --days int: for which they hold, where a stick travels long
status: what is published; 1 where nodes would refuse it
  --repository Path DIR required: None
"""


def described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A line for each command and each of its options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert (action.required, action.metavar) == (True, "COMMAND")
            words = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                assert command.allow_abbrev is False
                assert command.description == words[name]
                yield f"{name}: {words[name]}"
                yield from described(command)
        elif "--help" not in action.option_strings:
            parts = [
                *(action.option_strings or [action.dest]),
                getattr(action.type, "__name__", "str"),
                *([action.metavar] if action.metavar else []),
                *([str(action.nargs)] if action.nargs else []),
                *(["required"] if action.required else []),
                *([f"= {action.default}"] if action.default is not None else []),
            ]
            yield f"  {' '.join(parts)}: {action.help}"


def test_the_commands_and_their_options_are_these() -> None:
    told = "".join(f"{line}\n" for line in described(_parser()))
    assert told == OPTIONS.replace("RUNTIME", __version__)


def test_days_are_stated_for_each_role() -> None:
    assert _days([]) == DAYS
    assert _days(["root=9", "timestamp=1"]) == DAYS | {"root": 9, "timestamp": 1}
    usual = "root=365 targets=180 snapshot=14 timestamp=3"
    for wrong in ("root", "root=", "root=-1", "root=²", "online=3", "root=1=2"):
        with pytest.raises(ConfigError, match=f"^--days {wrong}, expected such as {usual}$"):
            _days([wrong])


def test_a_stick_may_travel_for_ten_years(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert publish("refresh --days 3650 --repository site --key online.pem") == 0
    assert publish("refresh --days 3651 --repository site --key online.pem") == 1
    assert capsys.readouterr().err.endswith("error: --days 3651, expected 1 to 3650\n")
