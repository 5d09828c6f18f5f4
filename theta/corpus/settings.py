"""The `data` section of params.yaml."""

import difflib
from typing import Annotated, Literal

from pydantic import Field, field_validator

from theta.corpus.items import Rules
from theta.corpus.shapes import marks
from theta.corpus.shapes.fields import KNOWN, canonical
from theta.settings import Settings

ChatRole = Literal["system", "user", "assistant"]


class DataSettings(Settings):
    """Which conversations to learn from, how to read them, and how many of them to hold back."""

    path: str = Field(min_length=1)
    """A file, a folder that is searched at any depth, or a dataset of the Hugging Face hub as
    `hf://datasets/NAME[@revision][/config][:split]`."""
    include: list[str]
    """Glob patterns of file names or of paths below `path`, such as `linux.json` or `support/*`; empty: every file."""
    exclude: list[str]
    """Glob patterns of files to leave out."""
    strict: bool
    """Whether a file that cannot be read stops the run; otherwise it is named, and the others are read."""
    fields: dict[str, str]
    """Other names of keys: from the name in your files to one that Theta knows, such as `frage: question`."""
    roles: dict[str, ChatRole]
    """Other names of roles, such as `bing: assistant`."""
    speakers: dict[str, ChatRole]
    """Who is who in exported chats of people, such as `Ann: user` and `Bob: assistant`."""
    first_speaker: Literal["user", "assistant"]
    """Who speaks first where a chat is a list of texts without names."""
    repair_encoding: bool
    """Whether text that another program decoded wrongly, such as `cafÃ©`, is repaired (ftfy). It costs time."""
    redact: list[Literal["emails", "phones", "cards", "keys"]]
    """Personal data that is replaced by a placeholder such as `[email]`."""
    caps: dict[str, Annotated[int, Field(ge=0)]]
    """At most so many conversations of a domain, or of the files that match a pattern."""
    weights: dict[str, Annotated[float, Field(ge=0, le=100)]]
    """How often a domain, or the files that match a pattern, are learned in an epoch: 0.5 keeps a half, 3 repeats."""
    new_wordings_fraction: float = Field(ge=0, le=0.5)
    """Fraction of the written wordings of trained questions (0 to 0.5) that is not learned, so that `evaluate` can
    measure whether a trained answer is given however it is asked."""
    rewordings: int = Field(ge=0, le=200)
    """Number of other wordings of each first question that rules make; 0 turns them off."""
    reword_any_language: bool
    """Whether questions in other languages than English are reworded too: by case, punctuation and typos alone."""
    validation_fraction: float = Field(ge=0, le=0.4)
    """Fraction of the conversations (0 to 1) held back to choose the best checkpoint; 0 holds none back. With fewer
    than about 200 conversations, 0.1 is better than 0.05, because the loss of a few conversations is noisy."""
    test_fraction: float = Field(ge=0, le=0.4)
    """Fraction of the conversations (0 to 1) that only `evaluate` reads, so that its figures are about questions that
    training never saw; 0 holds none back."""

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: dict[str, str]) -> dict[str, str]:
        for own, name in fields.items():
            if canonical(name) not in KNOWN | marks.ALL:
                close = difflib.get_close_matches(canonical(name), KNOWN, n=1)
                hint = f"did you mean '{close[0]}'?" if close else "such as question, answer, messages, text or domain"
                raise ValueError(f"{own}: '{name}' is not a key that Theta knows; {hint}")
        return fields

    @property
    def rules(self) -> Rules:
        """How items are to be understood."""
        return Rules(dict(self.fields), dict(self.roles), dict(self.speakers), self.first_speaker, self.repair_encoding)
