"""Bytes of AdamW's two averages, in 32, 8 or 4 bits."""

SHARING = 128
"""Neighbouring weights whose averages, in 8 or 4 bits, share a scale."""

FEWEST_CODED = 4096
"""Tensors of fewer weights keep their averages in 32 bits."""


def state_bytes(parameters: int, bits: int) -> float:
    """Bytes of both averages of so many weights, with their scales."""
    scales = 0 if bits == 32 else 4 / SHARING
    return parameters * 2 * (bits / 8 + scales)
