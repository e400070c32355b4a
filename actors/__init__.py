"""Who runs it: the driver of sessions, sealed links, the parties as Ray actors, the federation."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.actors, not actors: a second copy of the layer would be loaded")
