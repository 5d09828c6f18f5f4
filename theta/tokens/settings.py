"""The `tokenizer` section of params.yaml."""

from pydantic import Field

from theta.settings import Settings


class TokenizerSettings(Settings):
    """How conversations become documents of ids."""

    max_length: int = Field(ge=16)
    """Longest document in tokens, special tokens included; at most the positions of the base (1024 for GPT-2)."""
