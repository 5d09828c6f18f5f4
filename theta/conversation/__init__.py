"""Conversations and their rendering as text. Uses the standard library only."""
