import ast
import errno
import hashlib
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dat_runtime.stage
from dat_runtime.errors import ConfigError, DataError, DatError, ManifestError
from dat_runtime.manifest import NAME, read, verify
from dat_runtime.sources import sources
from dat_runtime.stage import ROOT, peak_memory_bytes
from tests.dat_runtime.stage_folders import change, make, stage


def test_a_stage_is_up_to_date_until_its_recipe_changes(tmp_path: Path) -> None:
    given, code = tmp_path / "input.txt", tmp_path / "code.py"
    given.write_text("1")
    code.write_text("x = 1")
    recipe: dict[str, Any] = {"inputs": {"given": given}, "code": [code]}
    out = make(tmp_path / "out", **recipe)
    assert stage(out, **recipe).up_to_date()
    assert not stage(out, **recipe, config={"n": 2}).up_to_date()
    given.write_text("2")
    assert not stage(out, **recipe).up_to_date()
    given.write_text("1")
    code.write_text("x = 2")
    assert not stage(out, **recipe).up_to_date()


def test_what_was_made_and_what_is_up_to_date_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = peak_memory_bytes() >> 20
    out = make(tmp_path / "out")
    after = peak_memory_bytes() >> 20
    assert stage(out).up_to_date()
    done, again = capsys.readouterr().out.splitlines()
    said = re.fullmatch(rf"\[out\] done in \d s, peak memory (\d+) MB: {out}", done)
    assert said
    assert before <= int(said[1]) <= after
    assert again == f"[out] up to date: {out}"


def test_macos_counts_memory_in_bytes_and_linux_in_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted() -> int:
        both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return max(resource.getrusage(who).ru_maxrss for who in both)

    for platform, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", platform)
        before = counted()
        assert before * unit <= peak_memory_bytes() <= counted() * unit


def test_the_code_of_other_files_is_the_digest_of_their_digests(tmp_path: Path) -> None:
    code = [tmp_path / "a.json", tmp_path / "b.txt"]
    for file in code:
        file.write_text(file.name)
    digests = "".join(hashlib.sha256(file.name.encode()).hexdigest() for file in code)
    made = read(make(tmp_path / "out", code=code))
    assert made.code == hashlib.sha256(digests.encode()).hexdigest()


def test_an_input_that_is_not_there_is_named_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none: .*: python -m data\.prep\.build makes it$"):
        stage(tmp_path / "out", inputs={"data": tmp_path / "none"})


def fail(out: Path, error: BaseException, **changes: Any) -> None:
    with stage(out, **changes) as folder:
        (folder / "checkpoint").write_text("1")
        raise error


def test_bad_input_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    before = (out / NAME).read_bytes()
    with pytest.raises(DataError):
        fail(out, DataError("bad line"), config={"n": 2})
    assert (out / NAME).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_not_kept_full_by_what_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        fail(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def cut_off(out: Path, **changes: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(out, KeyboardInterrupt(), **changes)


def test_a_stage_that_was_cut_off_starts_clean_unless_it_can_resume(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cut_off(out)
    assert not stage(out).resumes
    with stage(out) as folder:
        assert not (folder / "checkpoint").exists()

    other = tmp_path / "other"
    cut_off(other, resumable=True)
    assert not stage(other, resumable=True, config={"n": 2}).resumes
    again = stage(other, resumable=True)
    assert again.resumes
    with again as folder:
        assert (folder / "checkpoint").read_text() == "1"


SLOW: dict[str, Any] = {"resumable": True, "restart": False}
OTHER: dict[str, Any] = {"config": {"n": 2, "deep": {"rate": 0.1}}}
DIFFERS = r"deep\.rate: nothing → 0\.1; n: 1 → 2\. --restart "


def test_unfinished_work_of_another_recipe_is_refused_until_a_restart(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cut_off(out, **SLOW)
    with pytest.raises(ConfigError, match=rf"out\.partial holds unfinished work .*: {DIFFERS}"):
        stage(out, **SLOW, **OTHER).up_to_date()
    assert not stage(out, **SLOW).up_to_date()
    with stage(out, **SLOW) as folder:
        assert (folder / "checkpoint").read_text() == "1"
    cut_off(out, **{**SLOW, "restart": True}, **OTHER)
    assert not stage(out, **SLOW, **OTHER).up_to_date()  # begun by a restart: no need to ask again
    assert stage(out, **SLOW, **OTHER).resumes


def ended_with(out: Path, *files: str) -> None:
    """A resumable stage that failed when it had written these files."""
    with pytest.raises(DatError), stage(out, **{**SLOW, "restart": True}) as folder:  # noqa: PT012
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("1")
        raise DatError("out of memory")


BEGUN = ("train.log", "lengths.png", "config.yaml", "work/config.yaml", "work/run/args.yaml")
"""What trainings leave that end before their first checkpoint."""


@pytest.mark.parametrize(
    ("left", "asks"),
    [
        (["train.log"], False),
        (BEGUN, False),
        ([*BEGUN, "untrained/model.safetensors"], False),
        ([*BEGUN, "work/run/weights/last.pt"], False),
        ([*BEGUN, "work/checkpoint.pt"], True),
        ([*BEGUN, "work/checkpoint-5/model.safetensors"], True),
        ([*BEGUN, "best.pt"], True),
        ([*BEGUN, "adapter_model.safetensors"], True),
        (["train.log", "answers.jsonl"], True),
    ],
)
def test_only_what_took_time_asks_before_it_is_replaced(
    tmp_path: Path, left: list[str], asks: bool
) -> None:
    out = tmp_path / "out"
    ended_with(out, *left)
    assert sorted(out.with_name("out.partial").rglob("*.log"))  # to be read after the failure
    if asks:
        with pytest.raises(ConfigError, match=rf"unfinished work .*: {DIFFERS}"):
            stage(out, **SLOW, **OTHER).up_to_date()
        return
    assert not stage(out, **SLOW, **OTHER).up_to_date()
    with stage(out, **SLOW, **OTHER) as folder:
        assert [path.name for path in folder.iterdir()] == [NAME]


def test_finished_work_of_another_recipe_is_refused_until_a_restart(tmp_path: Path) -> None:
    out = make(tmp_path / "out", restart=False)
    given = tmp_path / "input.txt"
    given.write_text("1")
    with pytest.raises(ConfigError, match=rf"out holds the work of another recipe: {DIFFERS}"):
        stage(out, restart=False, **OTHER).up_to_date()
    with pytest.raises(ConfigError, match=r"inputs\.given: nothing → [0-9a-f]{12}\. --restart"):
        stage(out, restart=False, inputs={"given": given}).up_to_date()
    why = {"n": "n counts from the start", "m": "n counts from the start"}
    with pytest.raises(ConfigError, match=r"1 → 2; n counts from the start\. --restart"):
        stage(out, restart=False, config={"n": 2, "m": 1}, reasons=why).up_to_date()
    with pytest.raises(ConfigError, match=r"code: .*; code is that of DAT itself, .*\. --restart"):
        stage(out, restart=False, code=[__file__]).up_to_date()
    more = {"n": 1, **dict.fromkeys("abcdef", 1)}
    with pytest.raises(ConfigError, match=r"recipe: a: .*; f: nothing → 1\. --restart"):
        stage(out, restart=False, config=more).up_to_date()
    with pytest.raises(ConfigError, match=r"f: nothing → 1; and 1 more\. --rest.* keeps it$"):
        stage(out, restart=False, config=more | {"g": 1}).up_to_date()
    change(out)
    with pytest.raises(ConfigError, match=r"b\.txt changed since it was written.*--restart"):
        stage(out, restart=False).up_to_date()
    assert not stage(out, restart=True).up_to_date()
    assert (out / "b.txt").read_text() == "c"


def test_a_longer_work_goes_on_from_a_shorter_one_and_not_back(tmp_path: Path) -> None:
    def of(steps: float, **changes: Any) -> dat_runtime.stage.Stage:
        return stage(out, **SLOW, length={"steps": steps}, **changes)

    out = make(tmp_path / "out", **SLOW, length={"steps": 2})
    assert of(2).up_to_date()
    assert not of(3).up_to_date()
    assert of(3).prolongs
    assert not of(1).prolongs
    assert not of(3, **OTHER).prolongs
    with pytest.raises(ConfigError, match=r"length\.steps: 2 → 1"):
        of(1).up_to_date()
    with pytest.raises(ConfigError, match="n: 1 → 2"):
        of(3, **OTHER).up_to_date()
    cut_off(out, **SLOW, length={"steps": 3})
    with pytest.raises(ConfigError, match=r"length\.steps: 3 → 2\.5"):
        of(2.5).up_to_date()
    assert of(3).resumes
    assert of(4).resumes
    with of(4) as folder:
        assert (folder / "checkpoint").read_text() == "1"
    assert verify(out).config["length"] == {"steps": 4}


def test_a_training_that_failed_keeps_its_checkpoints(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DatError), stage(out, resumable=True) as folder:  # noqa: PT012
        (folder / "checkpoint").write_text("step 100")
        raise DatError("out of memory")
    with stage(out, resumable=True) as folder:
        assert (folder / "checkpoint").read_text() == "step 100"


def test_a_refusal_on_the_way_to_resume_loses_no_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cut_off(out, resumable=True)
    with pytest.raises(ConfigError), stage(out, resumable=True):
        raise ConfigError("the disk is full: free some")
    with stage(out, resumable=True) as folder:
        assert (folder / "checkpoint").read_text() == "1"


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    with stage(out, config={"n": 2}) as folder:
        (folder / "only.txt").write_text("only")
    assert sorted(p.name for p in out.iterdir()) == [NAME, "only.txt"]


def test_a_folder_that_no_stage_made_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"mine")
    refusal = r"was not made by a stage \(no manifest\.json\): it would be .* or remove it$"
    with pytest.raises(ManifestError, match=refusal):
        make(out)
    assert (out / "holiday.jpg").read_bytes() == b"mine"


def write_module(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_change_in_an_indirectly_imported_module_makes_a_stage_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    monkeypatch.setattr(dat_runtime.stage, "ROOT", root)
    entry = write_module(root / "train" / "a.py", "from data.prep import b\nimport torch\n")
    late = "def f():\n    try:\n        pass\n    finally:\n        import dat_runtime.c\n"
    write_module(root / "data" / "prep" / "b.py", late)
    deep = write_module(root / "dat_runtime" / "c.py", "from dat_runtime.d import x\n")
    write_module(root / "dat_runtime" / "d.py", "x = 1\n")
    alone = write_module(root / "dat_runtime" / "alone.py", "")
    extra = write_module(root / "train" / "a.json", "{}")
    out = make(tmp_path / "out", code=[entry, extra])

    alone.write_text("y = 1")
    assert stage(out, code=[entry, extra]).up_to_date()
    (root / "dat_runtime" / "d.py").write_text("x = 2\n")
    assert not stage(out, code=[entry, extra]).up_to_date()
    (root / "dat_runtime" / "d.py").write_text("x = 1\n")
    deep.write_text("from dat_runtime.d import x, y\n")
    assert not stage(out, code=[entry, extra]).up_to_date()
    deep.write_text("from dat_runtime.d import x\n")
    assert stage(out, code=[entry, extra]).up_to_date()
    extra.write_text("[]")
    assert not stage(out, code=[entry, extra]).up_to_date()


def test_the_code_of_the_instructions_holds_what_decides_them() -> None:
    found = {p.relative_to(ROOT).as_posix() for p in sources([Path("data/prep/instruct.py")], ROOT)}
    assert found >= {
        "data/prep/instruct.py", "dat_runtime/event.py", "dat_runtime/draw.py",
        "dat_runtime/prompt.py", "dat_runtime/edge/detector.py",
    }  # fmt: skip
    assert not found & {
        "dat_runtime/stage.py", "dat_runtime/manifest.py", "dat_runtime/errors.py",
        "dat_runtime/command.py", "dat_runtime/sources.py", "data/__init__.py",
    }  # fmt: skip
    for entry in ("data/prep/build.py", "train/gate.py", "train/base.py"):
        assert "prompt.py" not in {p.name for p in sources([Path(entry)], ROOT)}
    room = {p.name for p in Path("data/prep/rendering").glob("[!_]*.py")}
    primer = {p.name for p in sources([Path("data/prep/primer.py")], ROOT)}
    assert primer >= room - {"public_sets.py"}
    scenes = {p.name for p in sources([Path("data/prep/scenes.py")], ROOT)}
    assert scenes >= room - {"primer_scenes.py", "units.py"}


def test_an_import_counts_in_whatever_block_it_stands(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    blocks = {
        "if": "if x:\n    pass\nelse:\n    import m.{name}",
        "for": "for _ in x:\n    import m.{name}",
        "except": "try:\n    pass\nexcept OSError:\n    import m.{name}",
        "finally": "try:\n    pass\nfinally:\n    import m.{name}",
        "case": "match x:\n    case 1:\n        import m.{name}",
        "class": "class A:\n    import m.{name}",
        "def": "async def f():\n    with x:\n        import m.{name}",
        "from": "from m import y, {name} as z",
        "of": "from m.{name} import y",
        "two": "import x, m.{name} as z",
    }
    for name, text in blocks.items():
        module = write_module(root / "m" / f"_{name}.py", "")
        entry = write_module(root / f"{name}.py", text.format(name=f"_{name}"))
        assert sources([entry], root) == sorted([entry, module]), name


def test_a_module_that_is_no_python_is_named(tmp_path: Path) -> None:
    entry = write_module(tmp_path.resolve() / "a.py", "import")
    with pytest.raises(SyntaxError) as error:
        sources([entry], tmp_path)
    assert error.value.filename == str(entry)


def test_a_module_of_a_stage_counts_though_it_is_named_as_one_that_does_not(
    tmp_path: Path,
) -> None:
    root = tmp_path.resolve()
    entry = write_module(root / "train" / "a.py", "from train.room import stage, manifest\n")
    parts = [write_module(root / "train" / "room" / f"{n}.py", "") for n in ("stage", "manifest")]
    assert sources([entry], root) == sorted([entry, *parts])


def fastest(work: Callable[[], object]) -> float:
    """Seconds of CPU time of the fastest of three calls."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def test_to_read_the_imports_of_a_stage_takes_little_more_than_to_parse_its_files_once() -> None:
    entry = Path("data/prep/instruct.py")
    files = sources([entry], ROOT)

    def parse_each() -> None:
        for file in files:
            ast.parse(file.read_bytes())

    assert fastest(lambda: sources([entry], ROOT)) < 4 * fastest(parse_each)


def cut_off_at_the_move(out: Path, **changes: Any) -> Path:
    """A whole folder under the name of an unfinished one."""
    partial = out.with_name(f"{out.name}.partial")
    make(out.with_name("elsewhere"), **changes).rename(partial)
    return partial


@pytest.mark.parametrize("resumable", [False, True])
def test_a_whole_folder_whose_move_was_cut_off_is_moved(tmp_path: Path, resumable: bool) -> None:
    out = tmp_path / "out"
    make(out, config={"n": 0})
    cut_off_at_the_move(out)
    assert not stage(out, config={"n": 2}).up_to_date()
    assert stage(out, resumable=resumable).up_to_date()
    assert verify(out).config == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_whole_folder_is_not_moved_over_one_that_no_stage_made(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    cut_off_at_the_move(out)
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"mine")
    assert not stage(out).up_to_date()
    assert (out / "holiday.jpg").read_bytes() == b"mine"
    with pytest.raises(ManifestError, match="was not made by a stage"):
        make(out)


def test_what_changed_before_its_move_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (cut_off_at_the_move(out) / "b.txt").write_text("changed")
    assert not stage(out).up_to_date()
    assert not out.exists()
    verify(make(out))


def test_an_input_that_was_tampered_with_is_refused_by_name(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    change(data)
    with pytest.raises(ManifestError, match=r"data/b\.txt changed"):
        make(tmp_path / "out", inputs={"data": data})
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


WRITER = """
import sys
from pathlib import Path
from dat_runtime.stage import Stage
with Stage(Path(sys.argv[1]), kind="data", inputs={}, config={"n": 1}) as folder:
    (folder / "mine.txt").write_text("first")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def test_a_second_run_that_writes_the_same_folder_is_refused_at_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    ) as first:  # fmt: skip
        assert first.stdin
        assert first.stdout
        assert first.stdout.readline() == "writing\n"
        with pytest.raises(ManifestError, match=r"another run is writing .*out"):
            make(out)
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait(30) == 0
    assert list(verify(out).outputs) == ["mine.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_lock_of_a_process_that_died_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").write_bytes(b"")
    make(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_in_the_manifests_place_and_a_file_in_a_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "odd" / NAME).mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"manifest\.json: cannot be read"):
        read(tmp_path / "odd")
    with pytest.raises(ManifestError, match="was not made by a stage"):
        make(tmp_path / "odd")
    (tmp_path / "out.partial").write_text("a file")
    with pytest.raises(ManifestError, match=r"out\.partial: no folder can be made"):
        make(tmp_path / "out", resumable=True)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ManifestError, match="cannot be"):
        make(tmp_path / "file" / "out")


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    for content, left in ((b"", []), (b"1", ["out.partial"])):
        with pytest.raises(DatError), stage(tmp_path / "out", resumable=True) as folder:  # noqa: PT012
            (folder / "answers.jsonl").write_bytes(content)
            raise DatError("no server answers")
        assert [path.name for path in tmp_path.iterdir()] == left


def test_a_folder_that_was_removed_meanwhile_does_not_hide_the_error(tmp_path: Path) -> None:
    with pytest.raises(DatError, match="no server"), stage(tmp_path / "out") as folder:  # noqa: PT012
        shutil.rmtree(folder)
        raise DatError("no server answers")
