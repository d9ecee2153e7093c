"""The lock: a project's promises to restore released checkpoints, kept in its repository, and checked without the files."""
