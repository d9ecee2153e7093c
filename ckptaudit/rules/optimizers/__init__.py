"""What an optimizer's state tells."""
