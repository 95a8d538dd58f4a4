"""What commands of documents find before them: a run, a small one, and what a reader brings."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.documents.commands import ROOT
from tests.documents.running import run, working_folder

Ports = tuple[int, int]
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


def files_of(out: Path) -> dict[str, tuple[int, int]]:
    """Each file with its size and time, by which a change is noticed."""
    files = {path: path.stat() for path in sorted(out.rglob("*")) if path.is_file()}
    return {str(path): (told.st_size, told.st_mtime_ns) for path, told in files.items()}


def try_yaml() -> str:
    """The file that docs/node.md has a reader write."""
    guide = (ROOT / "docs" / "node.md").read_text("utf-8")
    return guide.partition("cat > try.yaml <<END\n")[2].partition("END\n")[0]


def alive(name: str) -> Callable[[Path, Ports], None]:
    """A node's settings with cameras, a receiver and a state that can be asked for."""

    def bring(folder: Path, ports: Ports) -> None:
        path = folder / name
        node = yaml.safe_load(path.read_text("utf-8"))
        for camera in node["cameras"]:
            camera |= {"source": str(folder / "pictures"), "loop": True}
        node.pop("mllm", None)  # the gate tells
        node["uplink"] = {"url": f"http://127.0.0.1:{ports[0]}"}
        node["metrics"] = {"listen": f"127.0.0.1:{ports[1]}"}
        path.write_text(yaml.safe_dump(node))

    return bring


def field(folder: Path, ports: Ports) -> None:
    """What a node's machine has: a bundle that always fires, pictures, settings, a token."""
    from benchmarks.bundle_variants import tiny_bundle

    if (folder / "pictures").is_dir():
        return
    tiny_bundle(folder / "var" / "bundle")
    copied(folder / "small" / "data" / "images" / "test", folder / "pictures")
    here = try_yaml().replace("/var/lib/dat/", "var/").replace("/path/to/", "")
    (folder / "try.yaml").write_text(here)
    (folder / "etc").mkdir()
    for name in ("node.yaml", "weak-node.yaml"):
        written = (ROOT / "configs" / "field" / name).read_text("utf-8")
        here = written.replace("/var/lib/dat/", "../var/").replace("/etc/dat/", "")
        (folder / "etc" / name).write_text(here)
    (folder / "etc" / "token").write_text("a-token\n")
    (folder / "etc" / "token").chmod(0o600)


def node_yaml(folder: Path, ports: Ports) -> None:
    """A node with the run's own bundle, one that takes updates from a folder."""
    field(folder, ports)
    copied(folder / "OUT" / "bundle", folder / "var" / "shipped")
    node = {
        "node": "n1",
        "bundle": "var/shipped",
        "cameras": [{"name": "north", "source": "pictures", "fps": 5, "loop": True}],
        "uplink": {"url": "http://127.0.0.1:9"},
        "spool": {"path": "spool.sqlite"},
        "updates": {
            "url": f"http://127.0.0.1:{ports[0]}",
            "root": "stick/metadata/1.root.json",
            "probation_minutes": 0.01,
        },
    }
    (folder / "node.yaml").write_text(json.dumps(node))
    alive("node.yaml")(folder, ports)


def weak_node(folder: Path, ports: Ports) -> None:
    """A node with the codec and the table that the commands before left."""
    field(folder, ports)
    alive("etc/weak-node.yaml")(folder, ports)
    node = yaml.safe_load((folder / "etc" / "weak-node.yaml").read_text("utf-8"))
    node |= {"bundle": "var/bundle", "spool": {"path": "spool.sqlite"}}
    node["offload"] |= {"codec": "OUT/codec", "table": "OUT/offload/table.json"}
    (folder / "weak-node.yaml").write_text(yaml.safe_dump(node))


def release(number: int) -> Callable[[Path, Ports], None]:
    """A version of the bundle in the repository `stick`, which is begun with the first."""
    return lambda folder, ports: _release(folder, ports, number)


def _release(folder: Path, ports: Ports, number: int) -> None:
    from benchmarks.bundle_variants import variant

    if number == 1:
        node_yaml(folder, ports)
        names = ("root-1", "root-2", "targets-1", "online")
        for name in names:
            done(f"python -m export.publish key {name}.pem", folder)
        done(
            "python -m export.publish init --repository stick --root root-1.pub root-2.pub "
            "--targets targets-1.pub --online online.pub "
            "--key root-1.pem root-2.pem targets-1.pem online.pem",
            folder,
        )
    variant(folder / "var" / "shipped", folder / "var" / f"new-{number}", number)
    done(
        f"python -m export.publish add var/new-{number} --as crossing/1.0.{number} --base {BASE} "
        "--scores OUT/eval/boxed-lora/scores.json --repository stick "
        "--key targets-1.pem online.pem",
        folder,
    )
