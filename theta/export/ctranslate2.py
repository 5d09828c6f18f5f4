"""CTranslate2: a folder that its `Generator` opens, fast on CPUs (https://opennmt.net/CTranslate2)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from theta.errors import ExportError, reason
from theta.export.verification import FLOAT32_TOLERANCE, examples
from theta.files import writing
from theta.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TOLERANCE = 10 * FLOAT32_TOLERANCE
"""Largest difference of a logit: the sums of its kernels are in another order."""


def write(folder: Path, source: Path, model: "GPT2LMHeadModel", vocabulary: Vocabulary) -> None:
    """Write the weights in 32 bits into a new folder, with the tokenizer in a folder `tokenizer` inside it.

    `Generator(..., compute_type="int8")` rounds the weights when it opens them.

    Args:
        folder: must not exist.
        source: the exported folder of `model`, which CTranslate2's converter reads.

    Raises:
        ExportError: CTranslate2 cannot compute such a model, or its logits differ from the model's.
        StorageError: a file cannot be written.
    """
    from ctranslate2.converters import TransformersConverter

    with writing(folder / "model.bin"):
        try:
            TransformersConverter(str(source)).convert(str(folder), quantization="float32")
        except (ValueError, KeyError, NotImplementedError) as fault:
            raise ExportError(
                f"CTranslate2 cannot convert this model ({reason(fault)}); remove ctranslate2 from export.formats."
            ) from fault
    vocabulary.save(folder / "tokenizer", model.config.n_positions)
    _check(folder, model, vocabulary)


def _check(folder: Path, model: "GPT2LMHeadModel", vocabulary: Vocabulary) -> None:
    """Compare CTranslate2's own logits with the model's."""
    from ctranslate2 import Generator, StorageView

    generator = Generator(str(folder), device="cpu", compute_type="float32")
    for ids, wanted in examples(model, vocabulary):
        batch = StorageView.from_array(np.array([ids], dtype=np.int32))
        lengths = StorageView.from_array(np.array([len(ids)], dtype=np.int32))
        found = np.array(generator.forward_batch(batch, lengths))
        difference = float(np.abs(found - wanted.numpy()).max())
        if not difference <= TOLERANCE:
            raise ExportError(f"Logits of CTranslate2 differ from the checkpoint's by {difference:.3g}.")
