"""The `export` section of params.yaml."""

from typing import Literal

from pydantic import Field

from theta.settings import Settings


class ExportSettings(Settings):
    """What the exported folder holds."""

    dtype: Literal["float32", "bfloat16", "float16"]
    """Number format of the exported weights; float32 keeps the checkpoint's logits to the bit."""
    model_name: str = Field(min_length=1)
    """Name in the model card."""
