"""The `data` section of params.yaml."""

from pydantic import Field

from theta.settings import Settings


class DataSettings(Settings):
    """Which conversations to learn from, and how many of them to hold back."""

    path: str = Field(min_length=1)
    """A file, or a folder that is searched at any depth for .json and .jsonl files."""
    include: list[str]
    """Glob patterns of file names or of paths below `path`, such as `linux.json` or `support/*`; empty: every file."""
    validation_fraction: float = Field(gt=0, le=0.4)
    """Fraction of the distinct first questions (0 to 1) held back to choose the best checkpoint. With fewer than about
    200 conversations, 0.1 is better than 0.05, because the loss of a few conversations is noisy."""
    test_fraction: float = Field(gt=0, le=0.4)
    """Fraction of the distinct first questions (0 to 1) that only `evaluate` reads, so that its figures are about
    questions that training never saw."""
