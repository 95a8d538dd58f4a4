"""What commands of documents find before them: a run, a small one, and what a reader brings."""

import fcntl
import json
import os
import shutil
from pathlib import Path

from tests.documents.running import run, working_folder

VARIABLE = "DAT_DOCUMENTS_OUT"
"""Names the folder that a shortened smoke run left."""
BASE = "train/shipped_base"


def linked(source: str, target: str) -> None:
    """Pictures are never changed in place; everything else is copied."""
    if source.endswith((".jpg", ".png")):
        try:
            os.link(source, target)
            return
        except OSError:  # another file system
            pass
    shutil.copy2(source, target)


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=linked, symlinks=True, dirs_exist_ok=True)


def smoke_run() -> Path:
    told = os.environ.get(VARIABLE)
    assert told, f"{VARIABLE} names no folder of a shortened smoke run: see `make documents`"
    folder = Path(told).resolve()
    assert (folder / "bundle").is_dir(), f"{folder} has no bundle: make smoke OUT=... first"
    return folder


def done(command: str, folder: Path, seconds: float = 120) -> None:
    status, output = run(command, folder, seconds)
    assert status == 0, f"{command}\n{output}"


def small_run(place: Path) -> Path:
    """The same run on a few frames of its own, made once for all test processes."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "small").is_dir():
            made = working_folder(place / "work")
            make_small_run(made)
            (made / "small").rename(place / "small")
    return place / "small"


def make_small_run(folder: Path) -> None:
    small, out = folder / "small", smoke_run()
    for name in ("gate", "lora-boxed"):
        copied(out / name, small / name)
    copied(small / "gate", small / "gate-1cls")  # stands in: one more gate is trained nowhere
    few = "--train 36 --val 12 --test 8 --negatives 24"
    done(f"python -m data.prep.scenes --out small/source --seed 5 {few}", folder)
    done("python -m data.prep.build --source small/source --out small/data", folder)
    done(
        "python -m data.prep.instruct --data small/data --gate small/gate --inputs boxed raw "
        "--max-pixels 28224 --out small/instructions",
        folder,
    )


def story(folder: Path, place: Path) -> Path:
    """A working folder with copies of the run, OUT, and of the small one."""
    working_folder(folder)
    copied(smoke_run(), folder / "OUT")
    copied(small_run(place), folder / "small")
    return folder


def digest_of(out: Path) -> list[tuple[str, int, int]]:
    """By which a change of the run is noticed: names, sizes and times."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return [
        (path.relative_to(out).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
    ]


def field_node(folder: Path) -> None:
    """A node as a reader sets one up: pictures in place of cameras, a bundle, a receiver."""
    from benchmarks.bundle_variants import tiny_bundle

    node = {
        "node": "n1",
        "bundle": "var/bundle",
        "cameras": [{"name": "north", "source": "pictures", "fps": 5, "loop": True}],
        "uplink": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool.sqlite"},
    }
    (folder / "node.yaml").write_text(json.dumps(node))
    if not (folder / "var").is_dir():
        tiny_bundle(folder / "var" / "bundle")
        copied(folder / "small" / "data" / "images" / "test", folder / "pictures")
