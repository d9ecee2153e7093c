"""Layouts of Keras' files, by which a graph's ``places`` are told apart."""

#: Layers and weights by numbers, as until 2023, or a group for each object and its variables by number. A legacy file can also be loaded
#: by the names of its layers.
LEGACY, NUMBERED, BY_NAME = "legacy", "numbered", "by_name"
