"""What the aggregator takes from a file that anybody may have written."""

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime.adapter import MAX_HEADER_BYTES
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.inbox import candidates, read_inbox
from dat_runtime.federation.increment import (
    MAGIC,
    MOST_LINE,
    demand_unchanged,
    most_bytes,
    read_increment,
    write_increment,
)
from dat_runtime.federation.round import open_round
from tests.dat_runtime.federation.fleet import (
    Factors,
    Fleet,
    make_fleet,
    random_factors,
    trained,
    write_adapter,
)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return make_fleet(tmp_path, 3)


def step(fleet: Fleet, seed: int = 1) -> Factors:
    return trained(fleet.start_factors, np.random.default_rng(seed))


def read(fleet: Fleet, path: Path):
    return read_increment(path, fleet.registry(), fleet.opened, fleet.start)


def test_a_signed_increment_is_read_as_it_was_sent(fleet: Fleet) -> None:
    path = fleet.send("node-01", step(fleet), samples=812)
    increment = read(fleet, path)
    assert (increment.node, increment.samples) == ("node-01", 812)
    sent = read_start(fleet.root / "trained" / "node-01").weights
    for module in sent.modules:
        np.testing.assert_array_equal(increment.weights.factors(module)[0], sent.factors(module)[0])
        np.testing.assert_array_equal(increment.weights.factors(module)[1], sent.factors(module)[1])


def test_behind_its_first_two_lines_it_is_the_adapters_own_file(fleet: Fleet) -> None:
    content = fleet.send("node-01", step(fleet)).read_bytes()
    weights = fleet.root / "trained" / "node-01" / "adapter_model.safetensors"
    assert content.split(b"\n", 2)[2] == weights.read_bytes()


def rewritten(content: bytes, change: Callable[[dict], None]) -> bytes:
    """The file with something in its second line changed."""
    magic, line, weights = content.split(b"\n", 2)
    envelope = json.loads(line)
    change(envelope)
    return b"\n".join([magic, json.dumps(envelope).encode(), weights])


def set_samples(envelope: dict) -> None:
    envelope["statement"] = envelope["statement"].replace('"samples": 100', '"samples": 999')


def add_key(envelope: dict) -> None:
    envelope["more"] = 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: b"", "not an increment: its first line is another$"),
        (lambda c: b"GIF89a" + c, "not an increment: its first line is another$"),
        (
            lambda c: MAGIC + b"{" * (MOST_LINE + 10) + b"\n",
            "not an increment: its second line is longer than 16,384 bytes$",
        ),
        (lambda c: MAGIC + b"[" * 5000 + b"\n", "(nested too deeply|Expecting|is not JSON)"),
        (lambda c: MAGIC + b"\xff\n", "'utf-8' codec"),
        (lambda c: MAGIC + b'{"key": 1, "key": 2}\n', "duplicate key"),
        (lambda c: rewritten(c, add_key), "second line: unknown key 'more'"),
        (lambda c: rewritten(c, set_samples), "the signature is not that of node-01$"),
        (lambda c: c[:-1], "node-01: the weights are not those that were signed$"),
        (lambda c: c + b"x", "node-01: the weights are not those that were signed$"),
        (lambda c: c + bytes(10_000_000), "[0-9,]+ bytes, an increment of this round has at most"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    fleet: Fleet, change: Callable[[bytes], bytes], reason: str
) -> None:
    path = fleet.send("node-01", step(fleet))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"^{path}: {reason}"):
        read(fleet, path)


def test_a_line_and_a_file_may_have_their_most_bytes_and_no_more(fleet: Fleet) -> None:
    most = most_bytes(fleet.start)
    parameters = 3 * (12 + 10 + 9 + 14)
    assert most == len(MAGIC) + MOST_LINE + 8 + MAX_HEADER_BYTES + 4 * parameters
    path = fleet.send("node-01", step(fleet))
    magic, line, weights = path.read_bytes().split(b"\n", 2)
    padded = b"\n".join([magic, line + b" " * (MOST_LINE - 1 - len(line)), weights])
    path.write_bytes(padded)
    assert read(fleet, path).node == "node-01"
    path.write_bytes(padded.replace(b" \n", b"  \n", 1))
    with pytest.raises(DataError, match="second line is longer"):
        read(fleet, path)
    os.truncate(path, most)
    with pytest.raises(DataError, match="second line is longer"):
        read(fleet, path)
    os.truncate(path, most + 1)
    words = f"^{path}: {most + 1:,} bytes, an increment of this round has at most {most:,}$"
    with pytest.raises(DataError, match=words):
        read(fleet, path)


def test_what_is_signed_cannot_stand_for_another_node(fleet: Fleet) -> None:
    """Wrong id: signed with a registered key of somebody else, or with one of nobody."""
    path = fleet.send("node-01", step(fleet), key=fleet.keys["node-02"])
    with pytest.raises(DataError, match="node-02 signed it as node-01"):
        read(fleet, path)
    path = fleet.send("node-01", step(fleet), key=Ed25519PrivateKey.generate())
    with pytest.raises(DataError, match="which no node is registered with"):
        read(fleet, path)


def test_an_increment_of_an_earlier_round_is_refused(fleet: Fleet) -> None:
    """A replay: the number, or with the same number the nonce."""
    path = fleet.send("node-01", step(fleet), opened=replace(fleet.opened, round=2))
    with pytest.raises(DataError, match="node-01: not of this round: round is 2, expected 3"):
        read(fleet, path)
    path = fleet.send("node-01", step(fleet), opened=open_round(3, fleet.start))
    with pytest.raises(DataError, match="not of this round: nonce is"):
        read(fleet, path)


@pytest.mark.parametrize("field", ["base", "revision", "start", "rank", "scale"])
def test_an_increment_for_another_base_or_start_is_refused(fleet: Fleet, field: str) -> None:
    other = {"base": "other", "revision": "b" * 64, "start": "c" * 64, "rank": 4, "scale": 1.5}
    stated = replace(fleet.opened, **{field: other[field]})
    # The node's own tool would not sign it: so a hostile node with a tool of its own.
    path = fleet.send("node-01", step(fleet))
    path.write_bytes(forged(fleet, path, field, getattr(stated, field)))
    with pytest.raises(DataError, match=f"node-01: not of this round: {field} is"):
        read(fleet, path)


def forged(fleet: Fleet, path: Path, field: str, value: object) -> bytes:
    """The file with a field of the statement changed, signed again by its node."""

    def change(envelope: dict) -> None:
        statement = json.loads(envelope["statement"]) | {field: value}
        text = json.dumps(statement)
        envelope["statement"] = text
        envelope["signature"] = fleet.keys["node-01"].sign(MAGIC + text.encode()).hex()

    return rewritten(path.read_bytes(), change)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("samples", 0, "samples is 0, expected a whole number from 1"),
        ("samples", 1e400, "JSON|samples"),
        ("node", "../../etc", "node is '../../etc', expected a name"),
        ("versions", {"prompt": 99}, "trained with versions"),
        ("weights", "0" * 64, "the weights are not those that were signed"),
        ("extra", 1, "unknown key 'extra'"),
    ],
)
def test_a_statement_is_checked_though_it_is_signed(
    fleet: Fleet, field: str, value: object, reason: str
) -> None:
    path = fleet.send("node-01", step(fleet))
    path.write_bytes(forged(fleet, path, field, value))
    with pytest.raises(DataError, match=reason):
        read(fleet, path)


def signed(fleet: Fleet, weights: bytes) -> Path:
    """Any bytes in the place of the weights, signed by a registered node."""
    path = fleet.send("node-01", step(fleet))
    content = forged(fleet, path, "weights", hashlib.sha256(weights).hexdigest())
    path.write_bytes(b"\n".join([*content.split(b"\n", 2)[:2], weights]))
    return path


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (b"", "no header"),
        (struct.pack("<Q", 1 << 62) + b"{}", "no header"),
        (struct.pack("<Q", 2) + b"{}", "its modules or their shapes"),
        (struct.pack("<Q", 4) + b"null", "the header is not an object"),
    ],
)
def test_hostile_weights_of_a_registered_node_are_refused(
    fleet: Fleet, weights: bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read(fleet, signed(fleet, weights))


def test_weights_of_another_shape_are_refused(fleet: Fleet) -> None:
    factors = step(fleet)
    module = min(factors)
    b, a = factors[module]
    other = write_adapter(fleet.root / "other", factors | {module: (b[:-1], a)})
    path = signed(fleet, (other / "adapter_model.safetensors").read_bytes())
    with pytest.raises(DataError, match="node-01: its modules or their shapes"):
        read(fleet, path)


def test_a_node_does_not_sign_what_would_be_refused(fleet: Fleet) -> None:
    out = fleet.root / "x.increment"

    def write(adapter: Path, node: str = "node-01", samples: int = 5) -> None:
        key = fleet.keys["node-01"]
        write_increment(out, adapter, fleet.opened, fleet.start, node, samples, key)

    def refused(adapter: Path, reason: str) -> None:
        with pytest.raises(DataError, match=f"^{re.escape(f'{adapter}: {reason}')}$"):
            write(adapter)

    start = fleet.start.folder
    same = write_adapter(fleet.root / "same", fleet.start_factors)
    refused(same, f"is the adapter of {start}: nothing was trained")
    for field, changes, mine, wanted in (
        ("base", {"base_model_name_or_path": "other"}, "'other'", "'base'"),
        ("revision", {"revision": "b" * 64}, f"'{'b' * 64}'", f"'{'a' * 64}'"),
        ("scale", {"lora_alpha": 30}, "10.0", "2.0"),
    ):
        adapter = write_adapter(fleet.root / field, step(fleet), **changes)
        refused(adapter, f"{field} is {mine}, round 3 has {wanted}")
    wider = {
        module: (np.hstack([b, b]), np.vstack([a, a])) for module, (b, a) in step(fleet).items()
    }
    adapter = write_adapter(fleet.root / "r", wider, r=6, lora_alpha=12)
    refused(adapter, "rank is 6, round 3 has 3")
    shorter = {module: (b[:-1], a) for module, (b, a) in step(fleet).items()}
    adapter = write_adapter(fleet.root / "short", shorter)
    refused(adapter, f"its modules or their shapes are not those of {start}")
    fine = write_adapter(fleet.root / "fine", step(fleet))
    with pytest.raises(ConfigError, match=r"^samples is 0, expected a whole number from 1 to"):
        write(fine, samples=0)
    with pytest.raises(ConfigError, match=r"^node is 'a b', expected a name"):
        write(fine, node="a b")
    assert list(fleet.root.glob("*increment*")) == []
    out.mkdir()
    (out / "file").touch()
    with pytest.raises(ConfigError, match=rf"^{out}: cannot be written \(.*irectory.*\)$"):
        write(fine)
    assert [path.name for path in fleet.root.glob("*increment*")] == ["x.increment"]


def test_links_and_folders_are_no_increments(fleet: Fleet) -> None:
    path = fleet.send("node-01", step(fleet))
    link = path.with_name("link.increment")
    link.symlink_to(path)
    folder = path.with_name("folder.increment")
    folder.mkdir()
    for other in (link, folder):
        with pytest.raises(DataError, match="not a plain file"):
            read(fleet, other)


def test_a_copy_counts_once_and_two_different_ones_not_at_all(fleet: Fleet) -> None:
    first = fleet.send("node-00", step(fleet, 1))
    (fleet.inbox / "again.increment").write_bytes(first.read_bytes())
    fleet.send("node-01", step(fleet, 2))
    fleet.send("node-01", step(fleet, 3), name="second")
    fleet.send("node-02", step(fleet, 4))
    (fleet.inbox / "notes.txt").write_text("hello")
    inbox = read_inbox(fleet.inbox, fleet.registry(), fleet.opened, fleet.start)
    assert [one.node for one in inbox.increments] == ["node-00", "node-02"]
    assert {refusal.file: refusal.reason for refusal in inbox.refusals} == {
        "node-00.increment": "node-00: a copy of again.increment",
        "node-01.increment": "node-01: signed 2 different increments for this round "
        "(node-01.increment, second.increment)",
        "second.increment": "node-01: signed 2 different increments for this round "
        "(node-01.increment, second.increment)",
        "notes.txt": "its name does not end in .increment",
    }


def test_a_file_that_is_written_to_while_it_is_read_is_noticed(fleet: Fleet) -> None:
    path = fleet.send("node-01", step(fleet))
    increment = read(fleet, path)
    demand_unchanged(increment)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="was changed while it was read"):
        demand_unchanged(increment)


def test_no_file_of_a_stranger_keeps_a_node_out(fleet: Fleet) -> None:
    fleet.send("node-01", step(fleet))
    other = random_factors(np.random.default_rng(5))
    fleet.send("node-01", other, key=Ed25519PrivateKey.generate(), name="a-stranger")
    inbox = read_inbox(fleet.inbox, fleet.registry(), fleet.opened, fleet.start)
    assert [one.node for one in inbox.increments] == ["node-01"]
    (refused,) = inbox.refusals
    assert refused.file == "a-stranger.increment"
    assert re.fullmatch(
        "signed with the key [0-9a-f]{16}, which no node is registered with", refused.reason
    )


def test_a_copy_that_says_other_samples_is_another_increment(fleet: Fleet) -> None:
    fleet.send("node-01", step(fleet), samples=5)
    fleet.send("node-01", step(fleet), samples=6, name="second")
    inbox = read_inbox(fleet.inbox, fleet.registry(), fleet.opened, fleet.start)
    assert inbox.increments == ()
    assert [refusal.file for refusal in inbox.refusals] == ["node-01.increment", "second.increment"]


def test_only_plain_files_of_the_right_name_and_size_are_candidates(fleet: Fleet) -> None:
    path = fleet.send("node-01", step(fleet))
    folder = fleet.inbox
    for name in ("a.increment", "b.increment", "c.txt"):
        (folder / name).write_bytes(b"x")
    most = most_bytes(fleet.start)
    os.truncate(folder / "a.increment", most)
    os.truncate(folder / "b.increment", most + 1)
    (folder / "link.increment").symlink_to(path)
    (folder / "folder.increment").mkdir()
    found = candidates(folder, fleet.start)
    assert found == {name: folder / name for name in ("a.increment", "node-01.increment")}
    words = rf"^{fleet.root}/none is no folder of increments NODE\.increment$"
    for read in (
        lambda none: candidates(none, fleet.start),
        lambda none: read_inbox(none, {}, fleet.opened, fleet.start),
    ):
        with pytest.raises(ConfigError, match=words):
            read(fleet.root / "none")
