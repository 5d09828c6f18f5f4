"""Experiments: fine-tuning from a model in one command, sweeps over settings, and comparisons."""
