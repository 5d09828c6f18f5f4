"""Evaluation of the model: likelihood of the test split, replies to its questions, and plots."""
