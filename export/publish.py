"""A repository of signed updates: a folder that any web server or a USB stick serves to nodes.

    python -m export.publish key root-1.pem
    python -m export.publish init --repository DIR --root root-1.pub root-2.pub root-3.pub \\
        --targets targets.pub --online online.pub --key root-1.pem root-2.pem targets.pem online.pem
    python -m export.publish add OUT/bundle --as crossing/1.0.0 --base NAME --scores SCORES \\
        --repository DIR --key targets.pem
    python -m export.publish refresh --repository DIR --key online.pem

A change of keys or releases counts once enough keys have signed: `--key` signs at once, `sign`
later and elsewhere. `docs/updates.md` leads from the key ceremony to a key that is replaced.
The passphrase of the keys is asked for, or taken from DAT_PASSPHRASE.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from dat_runtime import __version__, manifest
from dat_runtime.command import command
from dat_runtime.edge.bundle import NOT_FIT
from dat_runtime.edge.updates.offer import RUNTIME
from dat_runtime.errors import ConfigError, reports_errors
from export.repository import ceremony, releases, report
from export.repository.keys import make_key, read_private, read_public
from export.repository.online import is_online, refresh
from export.repository.store import Store
from export.repository.terms import terms_of


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _parser() -> argparse.ArgumentParser:
    parser = command("export.publish", __doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], says: str, keys: str = "*"
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=says, description=says, allow_abbrev=False)
        one.set_defaults(run=run)
        if name == "key":
            return one
        one.add_argument("--repository", type=Path, required=True, metavar="DIR")
        if keys:
            one.add_argument(
                "--key", type=Path, nargs=keys, default=[], metavar="PEM", help="keys to sign with"
            )
        return one

    add("key", _key, "make a key: FILE (encrypted) and its .pub").add_argument("file", type=Path)
    _add_init(add("init", _init, "begin a repository: its first root, and no release"))
    _add_release(add("add", _add, "publish a bundle"))
    share = add("rollout", _rollout, "give a release to another share of the nodes")
    share.add_argument("release", metavar="NAME/VERSION")
    share.add_argument("share", type=float, help="from 0 to 1")
    gone = add("revoke", _revoke, "take a release back: no node installs it any more")
    gone.add_argument("release", metavar="NAME/VERSION")
    _add_rotation(add("rotate", _rotate, "replace, add or remove a key; with none, renew the role"))
    add("sign", _sign, "sign the change that waits", keys="+")
    again = add("refresh", _refresh, "sign snapshot and timestamp anew (for cron)", keys="+")
    again.add_argument("--days", type=int, help="for which they hold, where a stick travels long")
    add("status", _status, "what is published; 1 where nodes would refuse it", keys="")
    return parser


def _add_init(parser: argparse.ArgumentParser) -> None:
    for role, says in (
        ("root", "decide on keys; keep them offline"),
        ("targets", "sign releases; keep them offline"),
        ("online", "sign snapshot and timestamp"),
    ):
        parser.add_argument(
            f"--{role}",
            type=Path,
            nargs="+",
            required=True,
            metavar="PUB",
            help=f"keys that {says}",
        )
    parser.add_argument("--root-threshold", type=int, help="default: more than half of them")
    parser.add_argument("--targets-threshold", type=int, default=1)
    parser.add_argument(
        "--days",
        nargs="+",
        default=[],
        metavar="ROLE=N",
        help=f"how long statements hold, default {_written(ceremony.DAYS)}",
    )


def _written(days: dict[str, int]) -> str:
    return " ".join(f"{role}={number}" for role, number in days.items())


def _add_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="folder made by export.bundle")
    parser.add_argument("--as", dest="release", required=True, metavar="NAME/VERSION")
    parser.add_argument("--base", required=True, help="the base model: its folder or its hub name")
    parser.add_argument("--scores", type=Path, required=True, help="scores.json of the adapter")
    parser.add_argument("--rollout", type=float, default=1.0, help="share of the nodes, default 1")
    parser.add_argument(
        "--runtime", default=__version__, help=f"earliest dat-runtime, default {__version__}"
    )


def _add_rotation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", choices=ceremony.ROLES)
    parser.add_argument("--old", type=Path, metavar="PUB", help="the key that goes")
    parser.add_argument("--new", type=Path, metavar="PUB", help="the key that comes")
    parser.add_argument("--threshold", type=int, help="how many have to sign from now on")


def _key(args: argparse.Namespace) -> int:
    print(f"[publish] key {make_key(args.file)}: {args.file}, {args.file.with_suffix('.pub')}")
    return 0


def _init(args: argparse.Namespace) -> int:
    keys = {role: [read_public(path) for path in vars(args)[role]] for role in ceremony.ROLES}
    majority = len(keys["root"]) // 2 + 1
    thresholds = {
        "root": majority if args.root_threshold is None else args.root_threshold,
        "targets": args.targets_threshold,
        "online": 1,
    }
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked(new=True):
        ceremony.begin(store, keys, thresholds, _days(args.days))
        return _finish(store, signers)


def _days(given: Sequence[str]) -> dict[str, int]:
    days = dict(ceremony.DAYS)
    for one in given:
        role, _, number = one.partition("=")
        if role not in days or not (number.isascii() and number.isdigit()):
            raise ConfigError(f"--days {one}, expected such as {_written(ceremony.DAYS)}")
        days[role] = int(number)
    return days


def _add(args: argparse.Namespace) -> int:
    release = releases.release_name(args.release)
    if not RUNTIME.holds(args.runtime):
        raise ConfigError(f"--runtime {args.runtime}, expected {RUNTIME.expected}")
    if not 0 <= args.rollout <= 1:
        raise ConfigError(f"--rollout {args.rollout}, expected a share from 0 to 1")
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked():
        terms = terms_of(
            args.bundle,
            args.base,
            args.scores,
            release=releases.next_release(store),
            runtime=args.runtime,
            rollout=args.rollout,
        )
        releases.add(store, release, args.bundle, terms)
        not_fit = manifest.read(args.bundle).config.get(NOT_FIT)
        if not_fit is not None:
            print(f"[publish] {args.release} is NOT FIT FOR USE: {not_fit}")
        print(
            f"[publish] {args.release} is release {terms.release}: rank {terms.rank}, alpha "
            f"{terms.alpha:g}, {', '.join(terms.modules)}, for {terms.base}"
        )
        return _finish(store, signers)


def _rollout(args: argparse.Namespace) -> int:
    release = releases.release_name(args.release)
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked():
        releases.set_rollout(store, release, args.share)
        return _finish(store, signers)


def _revoke(args: argparse.Namespace) -> int:
    release = releases.release_name(args.release)
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked():
        for file in releases.withdraw(store, release):
            print(f"[publish] no longer offered: {store.targets / file}")
        return _finish(store, signers)


def _rotate(args: argparse.Namespace) -> int:
    old = None if args.old is None else read_public(args.old).keyid
    new = None if args.new is None else read_public(args.new)
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked():
        ceremony.rotate(store, args.role, old, new, args.threshold)
        return _finish(store, signers)


def _sign(args: argparse.Namespace) -> int:
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked():
        if not any(store.waiting(role) for role in ("root", "targets")):
            raise ConfigError(f"nothing waits for signatures in {store.folder}")
        return _finish(store, signers)


def _refresh(args: argparse.Namespace) -> int:
    if args.days is not None and not 1 <= args.days <= ceremony.MOST_DAYS:
        raise ConfigError(f"--days {args.days}, expected 1 to {ceremony.MOST_DAYS}")
    store, signers = Store(args.repository), _signers(args.key)
    with store.locked():
        print(f"[publish] timestamp {refresh(store, signers, args.days)}")
    return 0


def _status(args: argparse.Namespace) -> int:
    store = Store(args.repository)
    with store.locked():
        for line in report.lines(store):
            print(line)
        for one in store.missing():
            print(f"staged: {one}")
        found = report.problems(store)
    for problem in found:
        print(f"nodes refuse it: {problem}")
    return 1 if found else 0


def _signers(paths: Sequence[Path]) -> list[CryptoSigner]:
    return [read_private(path) for path in paths]


def _finish(store: Store, signers: list[CryptoSigner]) -> int:
    """Sign what waits, publish what has its signatures; an online key then says what is newest.

    Raises:
        ConfigError: a key fits nothing; what waits goes on waiting.
    """
    root = store.root_to_come()
    online = [signer for signer in signers if is_online(root, signer)]
    used = store.sign(signers).union(signer.public_key.keyid for signer in online)
    for signer in signers:
        if signer.public_key.keyid not in used:
            raise ConfigError(f"key {signer.public_key.keyid[:8]} has nothing to sign here")
    for published in store.settle():
        print(f"[publish] {published} is published")
    missing = store.missing()
    for one in missing:
        print(f"[publish] staged: {one}")
    if missing:
        print("[publish] sign it with: python -m export.publish sign")
    elif online:
        print(f"[publish] timestamp {refresh(store, online)}")
    else:
        print(f"[publish] nodes see it after: {report.REFRESH}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
