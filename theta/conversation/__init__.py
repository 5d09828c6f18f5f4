"""What a conversation is and how it becomes text. Standard library only."""
