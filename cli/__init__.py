"""The command line, one command a file, over the public API."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.cli, not cli: a second copy of the layer would be loaded")
