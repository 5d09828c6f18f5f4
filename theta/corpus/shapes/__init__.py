"""What an item means."""
