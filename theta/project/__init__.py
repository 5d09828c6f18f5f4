"""The user's project: its folder, its git and DVC, copies of it, and the results that it holds."""
