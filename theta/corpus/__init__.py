"""Raw files of conversations -> clean conversations in train, validation and test, and a report of dropped items."""
