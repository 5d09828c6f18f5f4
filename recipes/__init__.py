"""How the models that come with Theta were made; no part of the package."""
