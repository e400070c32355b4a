"""What each party keeps: results and the record of every aggregate."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.records, not records: a second copy of the layer would be loaded")
