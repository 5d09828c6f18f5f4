"""starter/sources.yaml: which packages the corpus is made from."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from theta.settings import Settings, load

Format = Literal["html", "pod", "man", "vim", "wordnet", "foldoc", "jargon", "encyclopaedia", "smalltalk"]


class Package(Settings):
    """What is downloaded, and under which terms."""

    package: str = Field(min_length=1)
    """Its name in the registry; a PyPI package may be pinned, as in name==1.0."""
    registry: Literal["debian", "pypi"]
    licence: str = Field(min_length=1)
    copyleft: Literal["yes", "no"]

    @property
    def name(self) -> str:
        """The package's name without a version."""
        return self.package.partition("==")[0]


class Source(Package):
    """One package that is read."""

    subject: str
    """What it is about, such as Python; stands in questions. Empty where the questions say it themselves."""
    format: Format
    files: list[str] = Field(min_length=1)
    """Patterns of paths inside the package."""
    without: list[str] = Field(default_factory=list)
    """Patterns of paths that are left out."""


class TeacherPackage(Package):
    """The package whose model writes answers."""

    file: str = Field(min_length=1)
    """Pattern of the path of its GGUF file inside the package."""


class Sources(Settings):
    """The packages that are read, and the one that writes."""

    packages: list[Source] = Field(min_length=1)
    """In the order in which duplicates give way: of two equal paragraphs the first one's stays."""
    teacher: TeacherPackage

    @property
    def all(self) -> list[Package]:
        """Every package that is downloaded."""
        return [*self.packages, self.teacher]


def read(path: Path) -> Sources:
    """The packages of a file.

    Raises:
        SettingsError: naming every fault of it.
    """
    return load(path, "sources", Sources)
