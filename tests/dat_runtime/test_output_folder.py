"""The lock on an output folder, its move into place, and what an unfinished one is worth."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dat_runtime import output_folder
from dat_runtime.errors import ManifestError
from dat_runtime.output_folder import Lock, replace_folder, took_time, written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_is_a_hidden_file_beside_the_folder_and_goes_with_its_holder(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "out"
    first, second = Lock(out), Lock(out)
    with first:
        assert names(tmp_path / "runs") == [".out.lock"]
        words = rf"^another run is writing {out}: wait for its end$"
        with pytest.raises(ManifestError, match=words), second:
            pass
        with Lock(out.with_name("other")):
            assert names(tmp_path / "runs") == [".other.lock", ".out.lock"]
        second.release()  # which never had it
        assert names(tmp_path / "runs") == [".out.lock"]
    assert names(tmp_path / "runs") == []
    with Lock(tmp_path / "a" / "b" / "out"):
        assert names(tmp_path / "a" / "b") == [".out.lock"]
    with second, pytest.raises(ManifestError, match="another run"), first:
        pass


def test_a_lock_outlives_the_block_unless_the_block_raises(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lock = Lock(out)
    with pytest.raises(KeyboardInterrupt), lock.kept_unless_raised():
        raise KeyboardInterrupt
    assert names(tmp_path) == []
    with lock.kept_unless_raised():
        pass
    with pytest.raises(ManifestError, match="another run"), Lock(out):
        pass
    lock.release()
    assert names(tmp_path) == []


def test_where_no_lock_can_be_written_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    with pytest.raises(ManifestError, match=rf"^{out} cannot be written \(.*file"), Lock(out):
        pass


def system(flock: object) -> SimpleNamespace:
    return SimpleNamespace(flock=flock, LOCK_EX=1, LOCK_NB=2)


def test_a_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(output_folder, "fcntl", system(flock))
    with Lock(tmp_path / "out"), Lock(tmp_path / "out"):
        assert names(tmp_path) == [".out.lock"]
    monkeypatch.setattr(output_folder, "fcntl", None)
    with Lock(tmp_path / "out"), Lock(tmp_path / "out"):
        assert names(tmp_path) == []


def test_a_lock_whose_file_its_last_holder_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, taken = tmp_path / ".out.lock", []

    def flock(file: int, mode: int) -> None:
        taken.append(mode)
        if len(taken) == 1:
            path.unlink()

    monkeypatch.setattr(output_folder, "fcntl", system(flock))
    with Lock(tmp_path / "out"):
        assert taken == [3, 3]
        assert path.exists()


def put(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_new_folder_takes_the_place_of_the_old_one_and_of_what_a_crash_left(
    tmp_path: Path,
) -> None:
    put(tmp_path / "out", "old")
    put(tmp_path / "out.old", "older")
    replace_folder(put(tmp_path / "new", "a"), tmp_path / "out")
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], ["a"])
    (tmp_path / "out").rename(tmp_path / "out.old")  # the crash between the two renames
    replace_folder(put(tmp_path / "new", "b"), tmp_path / "out")
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], ["b"])


def test_the_old_folder_is_out_of_the_way_before_the_new_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, new = put(tmp_path / "out", "old"), put(tmp_path / "new", "a")
    moved: list[tuple[str, str]] = []
    rename = Path.rename

    def noted(path: Path, target: Path) -> Path:
        moved.append((path.name, target.name))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", noted)
    replace_folder(new, out)
    assert moved == [("out", "out.old"), ("new", "out")]


def test_what_is_written_is_files_with_content_but_the_manifest(tmp_path: Path) -> None:
    put(tmp_path, "manifest.json", "deep/a.txt", "b")
    (tmp_path / "empty").touch()
    (tmp_path / "c").write_bytes(b"1")
    assert sorted(written(tmp_path)) == [Path("b"), Path("c"), Path("deep/a.txt")]


@pytest.mark.parametrize(
    ("files", "took"),
    [
        ([], False),
        (["manifest.json", "train.log", "deep/other.log"], False),
        (["train.log", "a.jsonl"], True),
        (["work/train.log", "a.jsonl", "work/last.pt", "untrained/model.safetensors"], False),
        (["work/a/checkpoint-1"], False),
        (["work/checkpoint-1/a"], True),
        (["work/a", "best.pt"], True),
        (["work/a", "adapter.safetensors"], True),
        (["work/a", "best.onnx"], False),
    ],
)
def test_what_took_time_is_a_checkpoint_or_trained_weights_or_no_log(
    tmp_path: Path, files: list[str], took: bool
) -> None:
    assert took_time(put(tmp_path, *files)) is took


def test_an_open_lock_costs_no_file_descriptor_once_it_is_refused(tmp_path: Path) -> None:
    with Lock(tmp_path / "out"):
        before = len(os.listdir("/proc/self/fd"))
        refused = []
        for _ in range(3):
            try:
                Lock(tmp_path / "out").__enter__()
            except ManifestError as error:
                refused.append(error)  # whose traceback keeps the file alive
        assert len(refused) == 3
        assert len(os.listdir("/proc/self/fd")) == before
