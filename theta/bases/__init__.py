"""What a base is: a hub model, a local folder or a preset; its shape and its descriptor. No torch."""
