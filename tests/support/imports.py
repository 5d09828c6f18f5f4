"""The project files that a file imports, at its top or inside functions, directly or through others.

And whether the deps of a stage in a dvc.yaml cover them.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imported_modules(file: Path) -> Iterator[str]:
    """Yield the modules of this project that `file` imports, without those for the type checker only."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = {id(node) for guard in ast.walk(tree) if _is_type_checking(guard) for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("theta", "stages", "recipes"))


def closure(file: Path) -> set[Path]:
    """Return all project files that run when `file` runs, including itself; `__init__` files contain no code."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        candidates = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in imported_modules(current))
        waiting += [path for path in candidates if path.is_file()]
    return found


def missing(deps: Iterable[str], needed: Iterable[str]) -> list[str]:
    """Return the files of `needed` that no dep covers, neither the file nor a folder that contains it."""
    listed = list(deps)
    return sorted(path for path in needed if not any(_covers(dep, path) for dep in listed))


def superfluous(deps: Iterable[str], needed: Iterable[str]) -> list[str]:
    """Return the deps that cover no file of `needed`, or only files that another dep covers."""
    listed, paths = list(deps), list(needed)
    return sorted(
        dep
        for dep in listed
        if not any(_covers(dep, path) for path in paths) or any(_covers(other, dep) for other in listed if other != dep)
    )


def _covers(dep: str, path: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
