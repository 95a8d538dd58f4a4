"""What each key of `node.yaml` may hold; `node_file` reads it, docs/node.md explains it."""

import re
from urllib.parse import urlsplit

from dat_runtime import fields
from dat_runtime.alert import NAME
from dat_runtime.edge.spool import LEAST_BYTES
from dat_runtime.fields import Rule, Rules


def _is_address(value: object, schemes: tuple[str, ...]) -> bool:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")
        return parts.scheme in schemes and bool(host) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address, a name that is too long
        return False


def _address(*schemes: str) -> Rule:
    examples = " or ".join(f"{scheme}://" for scheme in schemes)
    return Rule(lambda v: _is_address(v, schemes), f"an address that begins with {examples}")


def _listens(value: object) -> bool:
    found = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    return found is not None and int(found[2]) < 65536


_LISTEN = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
"""A name, an IPv4 address or an IPv6 address in brackets; a port."""

_PATH = Rule(
    lambda v: isinstance(v, str) and v != "" and v.isprintable(), "a path of printable characters"
)
_MODEL = Rule(
    # An alert states it: a receiver would refuse every one with a longer name.
    lambda v: isinstance(v, str) and 1 <= len(v) <= 200 and v.isprintable(),
    "a name of at most 200 printable characters",
)

TOP: Rules = {
    "node": NAME,
    "bundle": _PATH,
    "cameras": fields.list_of(fields.OBJECT, 1, 1000),
    "mllm": fields.OBJECT,
    "offload": fields.OBJECT,
    "uplink": Rule(
        lambda v: isinstance(v, dict | list) and bool(v), "an object, or a list of them"
    ),
    "spool": fields.OBJECT,
    "metrics": fields.OBJECT,
    "updates": fields.OBJECT,
}
CAMERA: Rules = {
    "name": NAME,
    "source": _PATH,
    "fps": fields.above(0, 240),
    "loop": fields.FLAG,
}
MLLM: Rules = {
    "url": _address("http", "https"),
    "model": _MODEL,
    "concurrency": fields.whole(1, 1024),
    "timeout": fields.above(0, 600),
    "recorded": _PATH,
    "key_file": _PATH,
    "restart": fields.list_of(_PATH, 1, 64),
}
OFFLOAD: Rules = {
    "codec": _PATH,
    "table": _PATH,
    "max_latency": fields.above(0, 3600),
    "min_accuracy": fields.SHARE,
}
UPLINK: Rules = {
    "url": _address("http", "https", "mqtt", "mqtts"),
    "token_file": _PATH,
    "initial_bytes_per_s": fields.above(0, 1e12),
    "metered": fields.FLAG,
    "certificate": _PATH,
    "authorities": _PATH,
}
SPOOL: Rules = {
    "path": _PATH,
    "max_bytes": fields.whole(LEAST_BYTES),
    "alert_reserve_bytes": fields.whole(0),
}
METRICS: Rules = {"listen": Rule(_listens, "host:port, such as 127.0.0.1:9108")}
UPDATES: Rules = {
    "url": _address("http", "https"),
    "root": _PATH,
    "bundle": NAME,
    "canary": _PATH,
    "bytes_per_s": fields.above(0, 1e12),
    "probation_minutes": fields.number(0, 100_000),
    "probation_frames": fields.whole(0),
}
