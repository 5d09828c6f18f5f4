"""The stages of dvc.yaml, one file each: they know file names and sections of params.yaml, and hold no algorithm."""
