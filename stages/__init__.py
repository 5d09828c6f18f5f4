"""The stages of dvc.yaml, a file each, which know file names and sections of params.yaml but contain no algorithm."""
