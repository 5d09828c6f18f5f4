"""The settings in starter/answers.yaml: the questions for the teacher, and how it writes."""

from pathlib import Path

from pydantic import Field

from theta.settings import Settings, load


class Group(Settings):
    """Topics with the same wordings of questions."""

    name: str = Field(min_length=1)
    """Domain of its conversations."""
    instruction: str
    """System message for the teacher, which the student does not see."""
    wordings: list[str] = Field(min_length=1)
    """Complete questions with {} for the topic, or {bare} for the topic without its article."""
    beginnings: list[str] = Field(min_length=1)
    """Beginnings of questions that the teacher completes."""
    topics: list[str] = Field(min_length=1)


class AnswerSettings(Settings):
    """The questions for the teacher, and how it writes."""

    groups: list[Group] = Field(min_length=1)
    conversations_per_wording: int = Field(ge=1)
    """Number of conversations for each topic in each wording."""
    conversations_per_beginning: int = Field(ge=1)
    """Number of conversations for each topic with each beginning."""
    followup_fraction: float = Field(ge=0, le=1)
    """Fraction of the conversations in which the user writes a second message."""
    followups: list[str] = Field(min_length=1)
    system_message_fraction: float = Field(ge=0, le=1)
    """Fraction of the conversations that begin with a system message."""
    system_messages: list[str] = Field(min_length=1)
    max_question_tokens: int = Field(ge=1)
    max_reply_tokens: int = Field(ge=1)
    question_temperature: float = Field(gt=0)
    reply_temperature: float = Field(gt=0)
    min_p: float = Field(gt=0, lt=1)
    """Tokens with less than this fraction of the most likely token's probability are not drawn."""
    batch: int = Field(ge=1)
    """Number of prompts answered in parallel."""
    seed: int = Field(ge=0)


def read(path: Path) -> AnswerSettings:
    """Read the settings of a file.

    Raises:
        SettingsError: the file has faults; the message names all of them.
    """
    return load(path, "answers", AnswerSettings)
