"""How layers are set, where the file tells it."""
