"""Runs a module that ends with whoever has started it, killed or not: ``python -m tacit.actors.tether MODULE …``.

The starter holds the other end of this process's stdin, and lets nobody else have it. The kernel closes it when he
ends, however he ends, so that here the end of the stream is the end of him.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 10.0  # to end what it has started itself


def main() -> None:
    """Run the module that the command line names, with the arguments that follow."""
    threading.Thread(target=_end_with_the_starter, name="tacit tether", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_the_starter() -> None:
    """Wait for the end of stdin; then end this process, and the group that it leads."""
    while os.read(0, 1024):  # not by sys.stdin, whose lock would be held when this process ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
