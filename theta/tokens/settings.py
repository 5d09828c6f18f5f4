"""The `tokenizer` section of params.yaml."""

from pydantic import Field

from theta.settings import Settings


class TokenizerSettings(Settings):
    """How conversations become documents of ids."""

    max_length: int = Field(ge=16)
    """Length of the longest document in tokens, including special tokens; at most the positions of the base (1024 for
    GPT-2)."""
