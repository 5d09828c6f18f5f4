"""The GPT-2 network: its bases, its attention over documents laid end to end, and its loss."""
