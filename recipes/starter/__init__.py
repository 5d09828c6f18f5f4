"""The starter base: Debian and PyPI packages -> a corpus of English -> a small GPT-2, by Theta's own stages."""
