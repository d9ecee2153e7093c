"""What an export tells, or hides, by what it computes."""
