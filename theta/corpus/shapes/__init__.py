"""What an item means: raw values of any known shape in, conversations and rejects out."""
