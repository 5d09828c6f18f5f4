"""The `evaluate` section of params.yaml."""

from pydantic import Field

from theta.settings import Settings

RIGHT_CHRF = 60
"""A reply is right if its chrF is above it. Of 472 replies to trained questions, those above it said the same as the
trained answer, read one by one."""


class EvaluateSettings(Settings):
    """How the test split is evaluated."""

    replies: int = Field(ge=1, le=10_000)
    """Number of test conversations whose last reply the model writes itself, drawn evenly over domains."""
    answers: int = Field(ge=0, le=100_000)
    """Number of trained questions, and of new wordings of trained questions, that the model answers; 0 asks none."""
    prompts_per_batch: int = Field(ge=1, le=1024)
    """Number of replies generated in parallel; a lower value needs less memory."""
    seed: int = Field(ge=0, lt=2**63)
    """Seed of the sampled replies."""
