"""Text to ids and back, and the on-disk store of encoded documents. Does not import torch."""
