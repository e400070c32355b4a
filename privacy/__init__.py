"""Differential privacy: clipping, exact discrete noise, and the account of what releases cost."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.privacy, not privacy: a second copy of the layer would be loaded")
