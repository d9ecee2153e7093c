"""What Keras would do with the file."""
