"""What is looked at in every audit."""
