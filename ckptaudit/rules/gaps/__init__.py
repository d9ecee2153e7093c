"""What does not correspond as it is: other names, other shapes, layers of one side alone."""
