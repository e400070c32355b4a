"""What is computed: a contribution at a holder, an iteration at the coordinator."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.models, not models: a second copy of the layer would be loaded")
