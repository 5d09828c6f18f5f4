"""The `export` section of params.yaml."""

from typing import Literal

from pydantic import Field

from theta.export.formats import Format
from theta.settings import Settings


class ExportSettings(Settings):
    """Contents of the exported folder."""

    dtype: Literal["float32", "bfloat16", "float16"]
    """Number format of the exported weights; float32 keeps the checkpoint's logits exactly."""
    model_name: str = Field(min_length=1)
    """Name of the model in the model card."""
    formats: list[Format]
    """Formats of other programs to write into models/exports, besides models/theta_final."""
