"""starter/answers.yaml: what the teacher is asked, and how it writes."""

from pathlib import Path

from pydantic import Field

from theta.settings import Settings, load


class Group(Settings):
    """Topics that are asked about in the same wordings."""

    name: str = Field(min_length=1)
    """Domain of its conversations."""
    told: str
    """System message of the teacher, which the student does not see."""
    wordings: list[str] = Field(min_length=1)
    """Whole questions, with {} where the topic stands, {bare} where it stands without its article."""
    beginnings: list[str] = Field(min_length=1)
    """Beginnings of questions that the teacher carries on."""
    topics: list[str] = Field(min_length=1)


class Asking(Settings):
    """What the teacher is asked, and how it writes."""

    groups: list[Group] = Field(min_length=1)
    times_worded: int = Field(ge=1)
    """Conversations for each topic in each wording."""
    times_begun: int = Field(ge=1)
    """Conversations for each topic in each beginning."""
    followup_share: float = Field(ge=0, le=1)
    """Of the conversations, in which the user asks on."""
    followups: list[str] = Field(min_length=1)
    manner_share: float = Field(ge=0, le=1)
    """Of the conversations that begin with a system message."""
    manners: list[str] = Field(min_length=1)
    most_tokens_asked: int = Field(ge=1)
    most_tokens_replied: int = Field(ge=1)
    temperature_asked: float = Field(gt=0)
    temperature_replied: float = Field(gt=0)
    least_share: float = Field(gt=0, lt=1)
    """Of the likeliest token's probability: tokens below it are not drawn."""
    batch: int = Field(ge=1)
    """Prompts side by side."""
    seed: int = Field(ge=0)


def read(path: Path) -> Asking:
    """The settings of a file.

    Raises:
        SettingsError: naming every fault of it.
    """
    return load(path, "answers", Asking)
