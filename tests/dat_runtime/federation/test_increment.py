"""What the aggregator takes from a file that anybody may have written."""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime.errors import DataError
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.inbox import read_inbox
from dat_runtime.federation.increment import (
    MAGIC,
    MOST_LINE,
    demand_unchanged,
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
        (lambda c: b"", "not an increment: its first line"),
        (lambda c: b"GIF89a" + c, "not an increment: its first line"),
        (lambda c: MAGIC + b"{" * (MOST_LINE + 10), "its second line is longer"),
        (lambda c: MAGIC + b"[" * 5000 + b"\n", "nested too deeply|Expecting|is not JSON"),
        (lambda c: MAGIC + b"\xff\n", "codec"),
        (lambda c: MAGIC + b'{"key": 1, "key": 2}\n', "duplicate key"),
        (lambda c: rewritten(c, add_key), "unknown key 'more'"),
        (lambda c: rewritten(c, set_samples), "the signature is not that of node-01"),
        (lambda c: c[:-1], "the weights are not those that were signed"),
        (lambda c: c + b"x", "the weights are not those that were signed"),
        (lambda c: c + bytes(10_000_000), "an increment of this round has at most"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    fleet: Fleet, change: Callable[[bytes], bytes], reason: str
) -> None:
    path = fleet.send("node-01", step(fleet))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=reason):
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
    def write(adapter: Path, node: str = "node-01", samples: int = 5) -> None:
        out = fleet.root / "x.increment"
        key = fleet.keys["node-01"]
        write_increment(out, adapter, fleet.opened, fleet.start, node, samples, key)

    with pytest.raises(DataError, match="nothing was trained"):
        write(fleet.start.folder)
    other_base = write_adapter(fleet.root / "b", step(fleet), base_model_name_or_path="other")
    with pytest.raises(DataError, match="base is 'other', round 3 has 'base'"):
        write(other_base)
    other_scale = write_adapter(fleet.root / "s", step(fleet), lora_alpha=30)
    with pytest.raises(DataError, match=r"scale is 10\.0, round 3 has 2\.0"):
        write(other_scale)


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
    assert [refusal.file for refusal in inbox.refusals] == ["a-stranger.increment"]
