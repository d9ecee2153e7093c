"""What is looked at in every audit: the file by itself, its values, and the settings of both sides."""
