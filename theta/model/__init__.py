"""The GPT-2 network: loading and saving, attention over documents laid end to end, and the loss."""
