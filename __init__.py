"""Joint statistics and model training for parties who cannot show each other their data."""

if not __name__.startswith("tacit"):
    raise ImportError("the repository's root is the package 'tacit': install it and `import tacit`")
