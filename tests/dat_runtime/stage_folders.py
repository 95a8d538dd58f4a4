"""Small stage folders, for the tests of `manifest` and `stage`."""

from pathlib import Path
from typing import Any

from dat_runtime.stage import Stage


def stage(out: Path, **changes: Any) -> Stage:
    recipe: dict[str, Any] = {"kind": "data", "inputs": {}, "config": {"n": 1}}
    return Stage(out, **{**recipe, **changes})


def make(out: Path, **changes: Any) -> Path:
    with stage(out, **changes) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a.txt").write_text("a")
        (folder / "b.txt").write_text("b")
    return out


def change(out: Path) -> None:
    (out / "b.txt").write_text("c")
