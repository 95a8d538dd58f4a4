"""What a receiver does besides receiving: where alerts go on to, what comes by MQTT, what is kept.

Light to import: the command line reads it for its options.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from dat_runtime.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """All `None`: nothing goes on, and everything is kept.

    Attributes:
        webhook: address to which each new alert is POSTed.
        webhook_secret: file with the secret that signs it.
        mqtt: address of a broker to which each new alert is published.
        mqtt_in: address of a broker from which nodes' alerts and visuals are taken.
        mqtt_password: file with the password for both brokers; the user stands in the address.
        mqtt_certificate, mqtt_authorities: PEM files for both: ours with its key, and the
            authorities to trust.
        finish: base address of a model's server that answers what weak nodes ask.
        finish_model: its model's name there.
        finish_key: file with the key that the server asks for.
        keep_days: how long events are kept after their latest revision came.
        keep_bytes: what visuals and alerts may take together.

    Raises:
        ConfigError: a number that makes no sense, or a secret for nothing.
    """

    webhook: str | None = None
    webhook_secret: Path | None = None
    mqtt: str | None = None
    mqtt_in: str | None = None
    mqtt_password: Path | None = None
    mqtt_certificate: Path | None = None
    mqtt_authorities: Path | None = None
    finish: str | None = None
    finish_model: str = "dat"
    finish_key: Path | None = None
    keep_days: float | None = None
    keep_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("keep_days", "keep_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e18:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected more than 0")
        if self.webhook_secret is not None and self.webhook is None:
            raise ConfigError("--webhook-secret signs what goes to --webhook, which is missing")
        if self.finish_key is not None and self.finish is None:
            raise ConfigError("--finish-key is for the server of --finish, which is missing")
        if not (0 < len(self.finish_model) <= 200 and self.finish_model.isprintable()):
            raise ConfigError("--finish-model is no name of at most 200 printable characters")

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Settings":
        """From the options that `add_options` made."""
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `dat-runtime receive`: the arguments of `serve.receive`, and `Settings`."""
    add = parser.add_argument
    add("--listen", default="127.0.0.1:8080", help="ADDRESS:PORT (default: 127.0.0.1:8080)")
    add(
        "--store",
        required=True,
        help="sqlite:///PATH (an absolute path makes four slashes) or postgresql://...",
    )
    add("--tokens", type=Path, metavar="FILE", help="lines of NODE<TAB>TOKEN")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--data", type=Path, help="the folder of visuals/ (default: that of an SQLite store)")
    add("--webhook", metavar="URL", help="POST each new alert to this address")
    add("--webhook-secret", type=Path, metavar="FILE", help="sign what goes there with this secret")
    add("--mqtt", metavar="URL", help="publish each new alert at this broker")
    add("--mqtt-in", metavar="URL", help="take what nodes send by way of this broker")
    add("--mqtt-password", type=Path, metavar="FILE", help="for both; the user is in the URL")
    add("--mqtt-certificate", type=Path, metavar="PEM", help="for both: ours, with its key")
    add("--mqtt-authorities", type=Path, metavar="PEM", help="for both: whom to trust")
    add("--finish", metavar="URL", help="ask this model's server what weak nodes ask (.../v1)")
    add("--finish-model", default="dat", metavar="NAME", help="the model's name there (dat)")
    add("--finish-key", type=Path, metavar="FILE", help="the server's key, where it asks for one")
    add("--keep-days", type=float, metavar="N", help="remove what is older (default: keep all)")
    add("--keep-bytes", type=int, metavar="N", help="remove what is more, pictures before alerts")
