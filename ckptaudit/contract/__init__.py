"""How a model wants to be fed and read, who says so, and the code that does it."""
