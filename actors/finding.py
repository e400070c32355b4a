"""What the processes of a deployment are called in Ray, and how they are found by it."""

from __future__ import annotations

from typing import Any

import ray

NAMESPACE = "tacit"
LABEL = "tacit.party"  # of the machine of a party
REPOSITORY = "the repository"  # which no party can be called

# Ray would give the parties' processes a thirtieth of what any other process on the machine gets ("niceness" 15):
# beside one that computes they would answer nobody in time.
# A machine asks Ray's head whether it still belongs to it: every minute, if nothing is said, and then a head that has
# crashed and is back would find its holders more than a minute later.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "RAY_raylet_liveness_self_check_interval_ms": "5000",
}
# What Ray exports of metrics, with ``ray[default]``, it tells to whoever reaches the machine: those of the parties, of
# its head and of its dashboard. The last two know no "off"; a port that there cannot be is logged, and that is all.
WITHOUT_METRICS = {
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}


def actor_name(study: str, party: str) -> str:
    """Return what a party's process is called: parties of one study find each other even if their files differ."""
    return f"{study}: {party}"


def party(study: str, name: str) -> Any:
    """Return the handle of a party's process.

    Parameters
    ----------
    study : str
        The title.
    name : str

    Raises
    ------
    LookupError
        If there is none.
    """
    try:
        return ray.get_actor(actor_name(study, name), namespace=NAMESPACE)
    except ValueError:
        raise LookupError(name) from None


def is_same(one: Any, other: Any) -> bool:
    """Whether two handles, or none, are of one process."""
    return one is not None and other is not None and one._actor_id == other._actor_id
