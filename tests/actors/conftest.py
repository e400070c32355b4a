"""One Ray for all tests of the actors that need it, and federations that several of them share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def running_ray() -> Iterator[str]:
    """The address of a Ray that runs before any federation is made, and after all of them."""
    import ray  # noqa: PLC0415 - only for those who ask

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
