"""What every command of the project begins with."""

import argparse


def command(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m <module>`, to which the command adds its options.

    The description keeps its lines, and an option has to be written out: a prefix that is right
    today could mean another option tomorrow.

    Args:
        description: the module's docstring, or a line of its own.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_restart(parser: argparse.ArgumentParser) -> None:
    """The option without which a command replaces no work of another recipe (`stage.Stage`)."""
    parser.add_argument(
        "--restart", action="store_true", help="replace what another recipe made or began in --out"
    )
