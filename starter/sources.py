"""starter/sources.yaml: which packages the corpus is made from."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from theta.params import Settings, load

Format = Literal["html", "pod", "man", "vim", "wordnet", "foldoc", "jargon", "encyclopaedia", "smalltalk"]


class Source(Settings):
    """One package."""

    package: str = Field(min_length=1)
    """Its name in the registry; a PyPI package may be pinned, as in name==1.0."""
    registry: Literal["debian", "pypi"]
    licence: str = Field(min_length=1)
    copyleft: Literal["yes", "no"]
    subject: str
    """What it is about, such as Python; stands in questions. Empty where the questions say it themselves."""
    format: Format
    files: list[str] = Field(min_length=1)
    """Patterns of paths inside the package."""
    without: list[str] = Field(default_factory=list)
    """Patterns of paths that are left out."""

    @property
    def name(self) -> str:
        """The package's name without a version."""
        return self.package.partition("==")[0]


class Sources(Settings):
    """The packages, in the order in which duplicates give way: of two equal paragraphs the first one's stays."""

    packages: list[Source] = Field(min_length=1)


def read(path: Path) -> list[Source]:
    """The packages of a file.

    Raises:
        SettingsError: naming every fault of it.
    """
    return load(path, "sources", Sources).packages
