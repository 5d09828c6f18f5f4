"""The user's commands, a file each, and what they print."""
