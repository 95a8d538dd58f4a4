"""A build that cannot go on says so in one line, with the reason and what to do."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.prep.build import main
from tests.data.prep.source_builder import BOX, jpeg, picture

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "data.prep.build"]


def test_a_source_whose_pictures_are_all_broken_says_what_is_wrong(source, tmp_path, capsys):
    for image in source.accidents.rglob("*.jpg"):
        image.write_bytes(b"")
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "of 12 pictures no accident frame is usable: 6 empty-file" in line
    assert "train/images/train0.jpg, 0 bytes" in line


@pytest.mark.parametrize("options", [[], ["--leak-free"], ["--without", "negatives", "trace"]])
def test_a_source_without_any_usable_picture_is_refused(source, tmp_path, capsys, options):
    for image in source.root.rglob("*.jpg"):
        image.write_bytes(b"<html>")
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data"), *options]) == 1
    assert "no accident frame is usable" in capsys.readouterr().err
    assert list(tmp_path.glob("data*")) == []


def test_a_split_whose_pictures_are_broken_says_what_was_lost(source, tmp_path, capsys):
    for image in (source.accidents / "valid" / "images").iterdir():
        image.write_bytes(b"<html>")
    (source.accidents / "train/labels/train0.txt").write_text(BOX.strip())  # a harmless note
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no usable frame in the split val; lost in all splits: 2 not-an-image (the first" in line


def test_a_folder_of_archives_that_are_not_unpacked_says_so(tmp_path, capsys):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/set.tar.bz2").write_bytes(b"BZh9")
    out = tmp_path / "data"
    assert main(["--source", str(tmp_path / "downloads"), "--out", str(out)]) == 1
    assert "set.tar.bz2: only .zip, .tar and .tar.gz are unpacked" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--strict", "--on-bad-label", "skip"],
        ["--strict", "--on-conflict", "keep"],
    ],
)
def test_options_of_which_one_would_do_nothing_are_refused(source, tmp_path, capsys, options):
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data"), *options]) == 1
    assert options[0] in capsys.readouterr().err
    assert list(tmp_path.glob("data*")) == []


def test_names_that_are_not_utf_8_are_told_legibly_everywhere(source, tmp_path, capsys):
    for folder, name, content in (
        (source.accidents / "train" / "images", b"caf\xe9.jpg", jpeg(picture(60))),
        (source.accidents / "train" / "labels", b"caf\xe9.txt", b"1 0.95 0.5 0.2 0.2"),
        (source.accidents / "test" / "images", b"copy\xff.jpg", jpeg(picture(60))),
        (source.accidents / "test" / "labels", b"copy\xff.txt", BOX.encode()),
        (source.negatives / "test" / "Non Accident", b"link\xe9.lnk", b""),
    ):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data")]) == 0
    text = (tmp_path / "data/report.html").read_text("utf-8")
    assert r"caf\xe9.jpg" in text
    assert r"link\xe9.lnk" in text
    assert main(["--source", str(source.root), "--out", str(tmp_path / "b"), "--strict"]) == 1
    assert r"caf\xe9.txt:1: outside-frame" in capsys.readouterr().err


def own_mounts():
    """The beginning of a command that may mount a small disk; skips where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here, which a small disk needs")
    return [unshare, "-Urm", "sh", "-c"]


@pytest.mark.parametrize("kilobytes", [64, 400])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_made(source, tmp_path, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={kilobytes}k none "{disk}" && "$@"; echo "status $?"; ls "{disk}"'
    )
    arguments = ["--source", str(source.root), "--out", str(disk / "data")]
    ran = subprocess.run(
        [*own_mounts(), script, "sh", *COMMAND, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = ran.stderr.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device" in line
    assert ran.stdout.splitlines()[-1] == "status 1"


def test_ctrl_c_is_one_line_and_the_next_run_starts_clean(source, tmp_path):
    large = jpeg(picture(300, 1600, 1200))
    for number in range(400):
        source.frame(f"many{number}", "", large)
    arguments = ["--source", str(source.root), "--out", str(tmp_path / "data")]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        staging = tmp_path / "data.partial" / "staging"
        while running.poll() is None and not (staging.is_dir() and os.listdir(staging)):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate()
    assert running.returncode == 130
    assert told == "stopped (Ctrl-C): run the same command again\n"
    assert not (tmp_path / "data").exists()
