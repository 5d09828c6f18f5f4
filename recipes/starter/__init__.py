"""The starter base: Debian and PyPI packages -> a corpus of English -> a small GPT-2, trained by Theta's stages."""
