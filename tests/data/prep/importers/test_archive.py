import io
import resource
import shutil
import stat
import struct
import time
import zipfile

import pytest

from dat_runtime import manifest
from dat_runtime.errors import DataError
from data.prep.build import main
from data.prep.importers import archive
from data.prep.importers.archive import unpack
from tests.data.prep.importers.building import SPLITS


def zipped(tmp_path, entries, compression=zipfile.ZIP_DEFLATED):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as file:
        for entry, content in entries:
            file.writestr(entry, content)
    return path


def link(name, target):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry, target


def seconds_of(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seconds_to_refuse(path, folder):
    """The fastest of three times: other work on the machine only adds to it."""

    def refused():
        with pytest.raises(DataError):
            unpack(path, folder)

    return min(seconds_of(refused) for _ in range(3))


def test_a_sound_archive_gives_its_files(tmp_path):
    path = zipped(tmp_path, [("set/data.yaml", "a"), ("set/Non Accident/ü 1.jpg", b"\xff\xd8")])
    assert unpack(path, tmp_path / "out") == 2
    assert (tmp_path / "out/set/Non Accident/ü 1.jpg").read_bytes() == b"\xff\xd8"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../owned", "x")], "leads out"),
        ([("a/../../owned", "x")], "leads out"),
        ([("/tmp/owned", "x")], "absolute"),
        ([("C:owned", "x")], "absolute"),
        ([("..\\owned", "x")], "absolute"),
        ([("a\nb", "x")], "control characters"),
        ([("a" * 500, "x")], "over 400 bytes"),
        ([link("a", "/etc")], "link or device"),
        ([link("a", "/tmp"), ("a/owned", "x")], "link or device"),
        ([("A.txt", "x"), ("a.txt", "y")], "appears twice"),
    ],
    ids=range(10),
)
def test_an_entry_that_cannot_be_trusted_is_refused_by_name(tmp_path, entries, message):
    (tmp_path / "out").mkdir()
    path = zipped(tmp_path, entries)
    with pytest.raises(DataError, match=message) as caught:
        unpack(path, tmp_path / "out")
    assert "a.zip" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "owned").exists()


def test_a_195_kb_bomb_costs_neither_time_nor_memory(tmp_path):
    path = zipped(tmp_path, [("bomb.jpg", b"\0" * 200_000_000)])
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="more than 100-fold"):
        unpack(path, tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    with zipfile.ZipFile(path) as opened:
        unpacking = seconds_of(lambda: opened.read("bomb.jpg"))
    assert seconds_to_refuse(path, tmp_path / "out") < unpacking / 5


def directory_of(count, stated):
    """A central directory of `count` entries, and an end record that states another number."""
    name = b"a"
    one = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 49, 0, 0, 0, 0, 0, 0)
    directory = (one + name * 49) * count
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, stated, stated, len(directory), 0
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    return directory + end64 + locator + end


@pytest.mark.parametrize("stated", [1_000_000, 1])
def test_a_million_entries_are_refused_before_the_directory_is_read(tmp_path, stated):
    path = tmp_path / "a.zip"
    path.write_bytes(directory_of(1_000_000, stated))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="at most 200,000"):
        unpack(path, tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    tenth = io.BytesIO(directory_of(100_000, 100_000))
    assert seconds_to_refuse(path, tmp_path / "out") < seconds_of(lambda: zipfile.ZipFile(tenth))


def test_two_entries_on_the_same_bytes_are_refused(tmp_path):
    path = zipped(tmp_path, [("a", b"x" * 1000), ("b", b"y" * 1000)], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    second = content.rfind(b"PK\1\2")
    content[second + 42 : second + 46] = struct.pack("<L", 0)
    path.write_bytes(content)
    assert refusal(path, tmp_path / "out") in (
        "entry 'a': overlaps another",
        "entry 'b': overlaps another",
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_an_archive_cut_short_is_named(tmp_path, share):
    path = zipped(tmp_path, [("a.txt", "hello" * 50)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"a\.zip: "):
        unpack(path, tmp_path / "out")


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path):
    path = zipped(tmp_path, [("a.txt", "hello" * 50)], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_more_than_may_be_unpacked_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path, [("a", "x" * 500), ("b", "x" * 600)], zipfile.ZIP_STORED)
    monkeypatch.setattr(archive, "MAX_TOTAL", 1000)
    with pytest.raises(DataError, match="unpacks to 1,100 bytes"):
        unpack(path, tmp_path / "out")


def test_zip_files_are_sources_like_folders(source, tmp_path):
    archives = []
    for part in ("accidents-detection", "cctv", "5g"):
        archives.append(shutil.make_archive(str(tmp_path / part), "zip", source.root / part))
    one, two = tmp_path / "one" / "data", tmp_path / "two" / "data"
    assert main(["--source", *archives, "--out", str(one)]) == 0
    assert main(["--source", str(source.root), "--out", str(two)]) == 0
    for split in SPLITS.values():
        assert (one / f"truth_{split}.jsonl").read_bytes() == (
            two / f"truth_{split}.jsonl"
        ).read_bytes()


def test_a_zip_that_cannot_be_trusted_leaves_nothing(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("../owned", "x")
    assert main(["--source", str(tmp_path / "bad.zip"), "--out", str(tmp_path / "a/data")]) == 1
    assert "bad.zip: entry '../owned'" in capsys.readouterr().err
    assert [p for p in (tmp_path / "a").rglob("*") if p.is_file()] == []


def refusal(path, folder):
    with pytest.raises(DataError) as refused:
        unpack(path, folder)
    place, _, words = str(refused.value).partition(": ")
    assert place == str(path)
    return words


def test_refusals_are_told_to_the_letter(tmp_path, monkeypatch):
    out = tmp_path / "out"

    def told(*entries, **given):
        return refusal(zipped(tmp_path, entries, **given), out)

    assert told(link("l", "/etc")) == (
        "entry 'l': a link or device, only files and folders are unpacked"
    )
    assert told(("a/../b", "")) == "entry 'a/../b': a path that leads out of the folder"
    assert told(("a//b", "")) == "entry 'a//b': a path that leads out of the folder"
    assert told(("/a", "")) == "entry '/a': an absolute or foreign path"
    assert told(("x" * 401, "")) == (
        f"entry {'x' * 401!r:.200}: a path over 400 bytes or with control characters"
    )
    assert told(("a", "1"), ("A", "2")) == "entry 'A': appears twice"
    assert told(("bomb", b"\0" * 1_100_000)).endswith(" to 1,100,000 bytes, more than 100-fold")
    monkeypatch.setattr(archive, "MAX_ENTRIES", 2)
    assert told(("a", ""), ("b", ""), ("c", "")) == (
        "3 entries in a directory of 141 bytes; at most 2 entries are unpacked "
        "(unpack it yourself and name the folder)"
    )
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\5\6")
    assert refusal(path, out) == (
        "not a zip archive: it has no end record (cut off, or another format)"
    )


def test_as_many_entries_and_bytes_as_may_be_are_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path, [("a/b", b"x" * 600), ("c", b"y" * 400)], zipfile.ZIP_STORED)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 2)
    monkeypatch.setattr(archive, "MAX_TOTAL", 1000)
    monkeypatch.setattr(archive, "_DIRECTORY_PER_ENTRY", 48)
    (tmp_path / "out").mkdir()
    assert unpack(path, tmp_path / "out") == 2
    monkeypatch.setattr(archive, "_DIRECTORY_PER_ENTRY", 47)
    # Two headers of 46 bytes and names of 3 and 1.
    assert refusal(path, tmp_path / "out").startswith("2 entries in a directory of 96 bytes; at m")


@pytest.mark.parametrize("comment", [b"", b"a comment", b"x" * 65_535])
def test_a_comment_behind_the_directory_does_no_harm(tmp_path, comment):
    path = zipped(tmp_path, [("a.txt", "hello"), ("b/", "")])
    with zipfile.ZipFile(path, "a") as file:
        file.comment = comment
    (tmp_path / "out").mkdir()
    assert unpack(path, tmp_path / "out") == 1
    assert (tmp_path / "out" / "a.txt").read_text() == "hello"
    assert (tmp_path / "out" / "b").is_dir()


def test_an_empty_archive_has_no_files(tmp_path):
    (tmp_path / "out").mkdir()
    assert unpack(zipped(tmp_path, []), tmp_path / "out") == 0


def test_a_large_directory_is_told_by_its_own_record(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(directory_of(3, 200_001))
    assert refusal(path, tmp_path / "out").startswith("200,001 entries in a directory of 285 bytes")
    path.write_bytes(directory_of(3, 3).replace(b"PK\6\6", b"PK\6\5"))
    # Without that record the end record's own 65,535 entries and 4 GiB count.
    assert refusal(path, tmp_path / "out").startswith(
        "65,535 entries in a directory of 4,294,967,295 bytes"
    )


def test_an_entry_longer_than_its_header_says_is_refused(tmp_path):
    path = zipped(tmp_path, [("a.txt", "hello" * 50)], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    central = content.rfind(b"PK\1\2")
    content[central + 24 : central + 28] = struct.pack("<L", 100)
    path.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"a\.zip: "):
        unpack(path, tmp_path / "out")


def test_an_unpacked_folder_is_a_source_of_its_archive(tmp_path):
    path = zipped(tmp_path, [("a.txt", "hello")])
    with archive.unpacking(path, tmp_path / "made") as folder:
        unpack(path, folder)
    made = manifest.verify(tmp_path / "made", "source")
    assert made.inputs == {"archive": manifest.digest(path)}


def test_a_broken_stream_is_named_with_the_kind_of_its_error(tmp_path):
    path = zipped(tmp_path, [("a.txt", "hello" * 50)])
    content = bytearray(path.read_bytes())
    start = 30 + len("a.txt")
    content[start : start + 4] = b"\xff" * 4
    path.write_bytes(content)
    (tmp_path / "out").mkdir()
    assert refusal(path, tmp_path / "out").startswith("cannot be unpacked: error: Error -3 ")
