"""From gradients to new weights: AdamW in 32, 8 or 4 bits, the update, the EMA of the weights, the schedule."""
