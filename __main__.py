"""The command line: ``python -m tacit``."""

from .cli.app import app

if __name__ == "__main__":
    app(prog_name="python -m tacit")
