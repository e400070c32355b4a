"""What may leave a party: every message, typed and versioned, and its bytes."""

if not __name__.startswith("tacit"):
    raise ImportError(
        "import tacit.serialization, not serialization: a second copy of the layer would be loaded"
    )
