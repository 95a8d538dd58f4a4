"""The folders of the sources that are archives: each unpacked once, beside the output folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dat_runtime.errors import DataError
from data.prep.importers import archive, tarball
from data.prep.importers.listing import entries, is_leftover

_TAR = (".tar.gz", ".tgz", ".tar")
_OTHERS = (".rar", ".7z", ".tar.bz2", ".tar.xz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")


def folders_of(sources: Sequence[Path], out: Path) -> list[Path]:
    """A folder for each source: itself, or what its archive unpacks to.

    A source that is a folder of archives and holds no other folder counts as these archives.

    Raises:
        DataError: an archive is broken, cannot be trusted, or is of another kind.
    """
    folders: list[Path] = []
    for source in sources:
        if source.is_dir():
            folders += _in_folder(source, out)
        elif source.is_file() and _format(source):
            folders.append(_unpacked(source, out))
        elif source.is_file() and _is_other(source):
            raise _of_another_kind(source)
        else:
            folders.append(source)
    return folders


def _in_folder(folder: Path, out: Path) -> Iterator[Path]:
    """The folder itself, or what the archives in it unpack to, and it if it holds more."""
    inside = [path for path in entries(folder) if not is_leftover(path)]
    archives = [path for path in inside if path.is_file() and _format(path)]
    if inside and all(map(_is_other, inside)):
        raise _of_another_kind(inside[0])
    if not archives or any(path.is_dir() for path in inside):
        yield folder
        return
    yield from (_unpacked(path, out) for path in archives)
    if len(inside) > len(archives):
        yield folder


def _is_other(path: Path) -> bool:
    return path.name.lower().endswith(_OTHERS)


def _of_another_kind(path: Path) -> DataError:
    return DataError("only .zip, .tar and .tar.gz are unpacked: unpack it yourself", path)


def _format(path: Path) -> str | None:
    name = path.name.lower()
    if name.endswith(".zip"):
        return "zip"
    return "tar" if name.endswith(_TAR) else None


def _unpacked(path: Path, out: Path) -> Path:
    """What an archive unpacks to, in a stage of its own."""
    name = path.name
    for suffix in (".zip", *_TAR):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    folder = out.with_name(f"{out.name}.unpacked") / name
    module = archive if _format(path) == "zip" else tarball
    stage = archive.unpacking(path, folder, module.__file__)
    if not stage.up_to_date():
        with stage as partial:
            count = module.unpack(path, partial)
            print(f"[data] {path.name}: {count:,} files unpacked", flush=True)
    return folder
