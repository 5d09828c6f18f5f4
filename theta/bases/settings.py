"""The `model` section of params.yaml."""

from pydantic import Field

from theta.bases.presets import PRESETS
from theta.settings import Settings


class ModelSettings(Settings):
    """The base that training starts from."""

    base: str = Field(
        min_length=1,
        description="A local folder, a name on the Hugging Face hub such as gpt2-medium, or scratch:NAME "
        f"({', '.join(PRESETS)}).",
    )

    revision: str | None
    """Commit, tag or branch of a hub base; a tag or branch stays at the commit that this machine fetched first. null
    selects the pinned commit of gpt2, gpt2-medium, gpt2-large and gpt2-xl, and `main` of other models."""

    rehearsal: str = Field(
        min_length=1,
        description="What the base rehearses in training, so that it forgets less: auto (its own rehearsal.jsonl, else "
        "what it writes itself, once), none, or the path of a file of conversations or texts.",
    )

    seed: int = Field(ge=0, lt=2**31)
    """Seed of the initial weights of a scratch base; other bases do not depend on it."""
