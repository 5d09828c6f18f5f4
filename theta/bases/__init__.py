"""Bases: hub models, local folders and presets, their shapes and descriptors. Does not import torch."""
