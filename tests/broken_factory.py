"""A factory that fails, for the tests of the command line."""


def build():
    raise RuntimeError("no data today")
