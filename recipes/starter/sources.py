"""The settings in starter/sources.yaml: the packages that the corpus is built from."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from theta.settings import Settings, load

Format = Literal["html", "pod", "man", "vim", "wordnet", "foldoc", "jargon", "encyclopaedia", "smalltalk"]


class Package(Settings):
    """A package to download, and its licence."""

    package: str = Field(min_length=1)
    """Name in the registry; a PyPI package may be pinned, as in name==1.0."""
    registry: Literal["debian", "pypi"]
    licence: str = Field(min_length=1)
    copyleft: Literal["yes", "no"]

    @property
    def name(self) -> str:
        """The name of the package without a version."""
        return self.package.partition("==")[0]


class Source(Package):
    """A package that the corpus is built from."""

    subject: str
    """Subject to add to questions, such as Python; empty if the questions name it themselves."""
    format: Format
    files: list[str] = Field(min_length=1)
    """Patterns of paths inside the package."""
    without: list[str] = Field(default_factory=list)
    """Patterns of paths to leave out."""


class TeacherPackage(Package):
    """The package with the model that writes answers."""

    file: str = Field(min_length=1)
    """Pattern of the path of its GGUF file inside the package."""


class Sources(Settings):
    """The packages that the corpus is built from, and the teacher's package."""

    packages: list[Source] = Field(min_length=1)
    """In order of precedence: of two equal paragraphs, that of the earlier package is kept."""
    teacher: TeacherPackage

    @property
    def all(self) -> list[Package]:
        """All packages to download."""
        return [*self.packages, self.teacher]


def read(path: Path) -> Sources:
    """Read the packages of a file.

    Raises:
        SettingsError: the file has faults; the message names all of them.
    """
    return load(path, "sources", Sources)
