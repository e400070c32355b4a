"""One Ray for all tests of the actors that need it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from deployments import Analyst, Deployed


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Take Ctrl-C as a terminal's program does, whoever has started the tests: a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def running_ray() -> Iterator[str]:
    """The address of a Ray that runs before any federation is made, and after all of them."""
    import ray  # noqa: PLC0415 - only for those who ask
    from tacit.actors.finding import RAY_ENVIRONMENT  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as environment:
        for name, value in RAY_ENVIRONMENT.items():
            environment.setenv(name, value)
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="module")
def analyst(deployed: Deployed) -> Iterator[Analyst]:
    """Who asks, on the coordinator's host, once all parties of the module's study are met."""
    asking = deployed.analyst()
    deployed.wait_until_all_are_met(asking)
    yield asking
    asking.close()
