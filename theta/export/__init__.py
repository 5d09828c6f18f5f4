"""The exported folder that other readers open: bundle, model card, verification and release."""
