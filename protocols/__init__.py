"""How parties talk: the engine, the encodings, pure steps and the roles built from them."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.protocols, not protocols: a second copy of the layer would be loaded")
