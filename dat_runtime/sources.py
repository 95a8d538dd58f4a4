"""The source code that decides what a command makes: its module and all that it imports from here.

`Stage` states its digest in every manifest.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

_APART = frozenset(
    Path(__file__).resolve().with_name(f"{name}.py")
    for name in ("stage", "output_folder", "sources", "manifest", "errors", "command")
)
"""Modules that decide how a folder is written and how a command is called, not what is in it."""


def sources(entries: Iterable[Path], root: Path) -> list[Path]:
    """The given Python files and all of this repository that they import, at whatever depth.

    Imports are read, not run, those inside functions too. `__init__.py` of packages, which are
    empty, and the modules `_APART` do not count.
    """
    read: set[Path] = set()
    ahead = [Path(entry).resolve() for entry in entries]
    while ahead:
        path = ahead.pop()
        if path in read:
            continue
        read.add(path)
        for name in _imports(path):
            module = _module(name, root)
            if module is not None:
                ahead.append(module)
    return sorted(read)


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; of `from a import b` both a and a.b: b may be a module."""
    ahead: list[ast.AST] = [ast.parse(path.read_bytes(), str(path))]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        # Only blocks of statements hold imports; expressions, most of the tree, are left out.
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, None)
            if isinstance(inner, list):  # the body of a lambda is an expression
                ahead += inner


def _module(name: str, root: Path) -> Path | None:
    """The file of a module of this repository; None for any other name."""
    path = (root / name.replace(".", "/")).with_suffix(".py").resolve()
    if path in _APART or not path.is_file():
        return None
    return path
