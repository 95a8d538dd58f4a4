import gzip
import io
import shutil
import tarfile
import zipfile

import pytest

from dat_runtime.errors import DataError
from data.prep.importers import tarball
from data.prep.importers.tarball import unpack
from data.prep.importers.unpacked import folders_of


def entry(name, content=b"x", **changed):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changed.items():
        setattr(info, key, value)
    return info, content


def tarred(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for info, content in entries:
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w")]
)
def test_a_sound_tar_gives_its_files(tmp_path, name, mode):
    folders = [entry("./", b"", type=tarfile.DIRTYPE), entry("./set", b"", type=tarfile.DIRTYPE)]
    files = [entry("./set/ü 1.jpg", b"\xff\xd8"), entry("long/" * 60 + "a.txt", b"y")]
    path = tarred(tmp_path / name, folders + files, mode)
    (folder,) = folders_of([path], tmp_path / "data")
    assert folder == tmp_path / "data.unpacked" / "a"
    assert (folder / "set/ü 1.jpg").read_bytes() == b"\xff\xd8"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("../owned")], "leads out"),
        ([entry("a/../../owned")], "leads out"),
        ([entry("/tmp/owned")], "absolute"),
        ([entry("a\nb")], "control characters"),
        ([entry("a/" * 300 + "b")], "over 400 bytes"),
        ([entry("a", b"", type=tarfile.SYMTYPE, linkname="/etc")], "a link"),
        ([entry("a", b"", type=tarfile.LNKTYPE, linkname="b")], "a link"),
        ([entry("a", b"", type=tarfile.CHRTYPE)], "device"),
        ([entry("a", b"", type=tarfile.FIFOTYPE)], "device"),
        ([entry("A.txt"), entry("a.txt")], "appears twice"),
    ],
    ids=range(10),
)
def test_an_entry_that_cannot_be_trusted_is_refused_by_name(tmp_path, entries, message):
    (tmp_path / "out").mkdir()
    path = tarred(tmp_path / "a.tar.gz", entries)
    with pytest.raises(DataError, match=message) as caught:
        unpack(path, tmp_path / "out")
    assert "a.tar.gz: cannot be unpacked" in str(caught.value)
    assert not (tmp_path / "owned").exists()
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(DataError):
        folders_of([path], tmp_path / "data")
    assert not (tmp_path / "data.unpacked" / "a").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no archive at all" * 100, "cannot be unpacked"),
        (gzip.compress(b"x" * 5000), "cannot be unpacked"),
        (gzip.compress(b"x" * 5000)[:-20], "cannot be unpacked"),
    ],
    ids=["nothing", "text", "gzip", "cut"],  # not the bytes: gzip's hold the time of their making
)
def test_what_is_no_tar_is_refused(tmp_path, content, message):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        unpack(tmp_path / "a.tar.gz", tmp_path)


def test_a_bomb_is_stopped_on_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr(tarball, "_SMALL", 1024 * 1024)
    path = tarred(tmp_path / "a.tar.gz", [entry("a", b"\0" * 50_000_000)])
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(path, tmp_path / "out")
    assert (tmp_path / "out/a").stat().st_size < 10_000_000


def test_a_huge_extended_header_is_refused_unread(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 60_000_000
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(info.tobuf() + b"a" * 1_000_000)
    with pytest.raises(DataError, match="a header of"):
        unpack(tmp_path / "a.tar.gz", tmp_path)


def test_a_folder_of_archives_counts_as_these_archives(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    tarred(source / "a.tar.gz", [entry("set/a.txt")])
    with zipfile.ZipFile(source / "b.zip", "w") as file:
        file.writestr("b.txt", "x")
    (source / ".DS_Store").write_bytes(b"x")
    unpacked = tmp_path / "data.unpacked"
    assert folders_of([source], tmp_path / "data") == [unpacked / "a", unpacked / "b"]
    (source / "zoom.csv").write_text("DL_bitrate,UL_bitrate\n1,1\n")
    assert folders_of([source], tmp_path / "data")[2:] == [source]
    (source / "unpacked by hand").mkdir()
    assert folders_of([source], tmp_path / "data") == [source]


def test_an_archive_of_another_kind_is_named(tmp_path):
    (tmp_path / "a.tar.xz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"only .zip, .tar and .tar.gz are unpacked"):
        folders_of([tmp_path / "a.tar.xz"], tmp_path / "data")
