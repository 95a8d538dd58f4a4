"""What a receiver does besides receiving, as its command line says it."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.cloud.settings import Settings, add_options
from dat_runtime.errors import ConfigError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def test_options_that_are_not_given_say_that_nothing_goes_on() -> None:
    args = parsed("--store", "sqlite:///r.db")
    assert Settings.of(args) == Settings()
    assert Settings().finish_model == "dat"
    rest = (args.listen, args.store, args.tokens, args.workers, args.data)
    assert rest == ("127.0.0.1:8080", "sqlite:///r.db", None, 1, None)
    with pytest.raises(SystemExit):
        parsed()


def test_each_option_is_read_into_its_setting() -> None:
    words = (
        "--store s --listen [::1]:0 --tokens t --workers 3 --data d --webhook w "
        "--webhook-secret ws --mqtt m --mqtt-in mi --mqtt-password mp "
        "--mqtt-certificate mc --mqtt-authorities ma "
        "--finish f --finish-model fm --finish-key fk --keep-days 2.5 --keep-bytes 7"
    )
    args = parsed(*words.split())
    assert Settings.of(args) == Settings(
        webhook="w",
        webhook_secret=Path("ws"),
        mqtt="m",
        mqtt_in="mi",
        mqtt_password=Path("mp"),
        mqtt_certificate=Path("mc"),
        mqtt_authorities=Path("ma"),
        finish="f",
        finish_model="fm",
        finish_key=Path("fk"),
        keep_days=2.5,
        keep_bytes=7,
    )
    rest = (args.listen, args.tokens, args.workers, args.data)
    assert rest == ("[::1]:0", Path("t"), 3, Path("d"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep_days": 0.0}, "--keep-days is 0.0, expected more than 0"),
        ({"keep_days": float("nan")}, "--keep-days is nan, expected more than 0"),
        ({"keep_bytes": 0}, "--keep-bytes is 0, expected more than 0"),
        ({"keep_bytes": -5}, "--keep-bytes is -5, expected more than 0"),
        ({"keep_bytes": 10**18}, f"--keep-bytes is {10**18}, expected more than 0"),
        (
            {"webhook_secret": Path("s")},
            "--webhook-secret signs what goes to --webhook, which is missing",
        ),
        ({"finish_key": Path("k")}, "--finish-key is for the server of --finish, which is missing"),
        (
            {"finish_model": "m" * 201},
            "--finish-model is no name of at most 200 printable characters",
        ),
        ({"finish_model": ""}, "--finish-model is no name of at most 200 printable characters"),
        ({"finish_model": "a\nb"}, "--finish-model is no name of at most 200 printable characters"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as told:
        Settings(**given)
    assert str(told.value) == words


def test_settings_at_their_bounds() -> None:
    assert Settings(keep_days=0.5, keep_bytes=1, finish_model="m" * 200).keep_bytes == 1
    assert Settings(keep_bytes=10**17).keep_bytes == 10**17
    assert Settings(webhook="w", webhook_secret=Path("s"), finish="f", finish_key=Path("k"))


HELP = [
    "--listen LISTEN       ADDRESS:PORT (default: 127.0.0.1:8080)",
    "--store STORE         sqlite:///PATH (an absolute path makes four slashes) or postgresql://...",
    "--tokens FILE         lines of NODE<TAB>TOKEN",
    "--workers N           processes (default: 1)",
    "--data DATA           the folder of visuals/ (default: that of an SQLite store)",
    "--webhook URL         POST each new alert to this address",
    "--webhook-secret FILE",
    "sign what goes there with this secret",
    "--mqtt URL            publish each new alert at this broker",
    "--mqtt-in URL         take what nodes send by way of this broker",
    "--mqtt-password FILE  for both; the user is in the URL",
    "--mqtt-certificate PEM",
    "for both: ours, with its key",
    "--mqtt-authorities PEM",
    "for both: whom to trust",
    "--finish URL          ask this model's server what weak nodes ask (.../v1)",
    "--finish-model NAME   the model's name there (dat)",
    "--finish-key FILE     the server's key, where it asks for one",
    "--keep-days N         remove what is older (default: keep all)",
    "--keep-bytes N        remove what is more, pictures before alerts",
]
"""With room for each in a line."""


def test_the_help_says_of_each_option_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    parser = argparse.ArgumentParser()
    add_options(parser)
    lines = parser.format_help().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.strip().startswith("--listen"))
    assert [line.strip() for line in lines[begin:]] == HELP
