"""Bytes of AdamW's two moments, in 32, 8 or 4 bits. torch is not imported, so that plans are quick."""

WEIGHTS_PER_SCALE = 128
"""Neighbouring weights whose moments, in 8 or 4 bits, share a scale."""

FEWEST_CODED = 4096
"""Tensors with fewer weights keep their moments in 32 bits."""


def state_bytes(parameters: int, bits: int) -> float:
    """Bytes of both moments of this many weights, with their scales."""
    scales = 0 if bits == 32 else 4 / WEIGHTS_PER_SCALE
    return parameters * 2 * (bits / 8 + scales)
