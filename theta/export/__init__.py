"""The folder that other readers open: bundle, card, verification, release."""
