"""Makes a party's process and waits with it: run by `joining`, as ``python -m tacit.actors.party_keeper FILE``.

It is the driver in Ray's words, that the party's process ends with. What happens it prints, one line of JSON each.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from ..protocols.party import COORDINATOR
from ..records.party_file import PartyFile, RepositoryPlace
from ..records.private_files import write_private
from ..records.signing import KEY_BYTES
from ..serialization.errors import TacitError
from . import cluster
from .clocks import told
from .deployed_hosts import UNREACHED
from .errors import ActorError, PeerUnreachableError, cause_of

RETRY_SECONDS = 1.0
RAY_SECONDS = 60.0
LOOK_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # longer than others bear it: then the party's process is made anew
OWN = re.compile(
    r"^tacit\.[\w.]+: ", re.MULTILINE
)  # in a traceback: where the words of an error of ours begin


def say(event: str, **what: Any) -> None:
    """Tell whoever reads."""
    sys.stdout.write(json.dumps({"event": event, **what}) + "\n")
    sys.stdout.flush()


def keep(file: PartyFile) -> None:
    """Make the party's process, and wait until it ends.

    Raises
    ------
    TacitError
        If it cannot be made, or cannot start.
    ActorError
        When it does not reach a party any longer that reaches it.
    RayError
        When it ends, or does not answer for long.
    """
    study = file.study
    name, kind = file.party.name, file.party.kind
    machine = study.machines[name]
    _reach_ray(study.address)
    if kind == COORDINATOR:
        repository = cluster.start_deployed_repository(study.title, machine, _place(file))
        ray.get(repository.ledger_head.remote())
    host = cluster.start_party(study.title, name, kind, str(file.path.absolute()), machine)
    ray.get(host.mute.remote())
    problems = ray.get(host.start.remote())

    def look_at_clocks() -> None:
        if ahead := ray.get(host.clocks_ahead.remote(), timeout=SILENCE_SECONDS):
            say("clocks", ahead=ahead, told=told(ahead))

    look_at_clocks()
    say("ready", party=name, study=study.title, not_met=problems)
    everybody = {party.name for party in study.parties}
    met = everybody - problems.keys()
    gone = host.watch.remote()
    while True:
        done, _ = ray.wait([gone], timeout=LOOK_SECONDS)
        if done:
            ray.get(gone)
            gone = host.watch.remote()
        now = ray.get(host.problems.remote(), timeout=SILENCE_SECONDS)
        if now != problems:
            problems = now
            look_at_clocks()
            say("parties", not_met=now)
            met |= everybody - now.keys()
        if kind != COORDINATOR:
            _check_reach(met, now)


def _check_reach(met: set[str], problems: Mapping[str, str]) -> None:
    """See whether a party that was met before is there and is reached no longer.

    A process that was cut off for some time may hear of no new process any more, as Ray has lost its subscription: it
    has to be made anew, whatever else it is doing. The coordinator's is beside Ray's head, which it cannot be cut off
    from. What was never met is the network's doing, and told.
    """
    for name in sorted(met):
        if problems.get(name) == UNREACHED:
            raise ActorError(
                f"{name} is there, and is not reached from here any longer: this party's process is made anew"
            )


def _place(file: PartyFile) -> RepositoryPlace:
    """Return where the coordinator keeps models, and the key that signs the logs: beside its other state, if unsaid."""
    place = file.repository or RepositoryPlace(str(file.state / "repository"), None, None)
    if place.signing_key_file is not None:
        return place
    key = file.state / "repository.key"
    if not key.exists():
        write_private(key, secrets.token_hex(KEY_BYTES))
    return replace(place, signing_key_file=key)


def _reach_ray(address: str) -> None:
    """Become a user of Ray, which may be starting just now."""
    ends = time.monotonic() + RAY_SECONDS
    while True:
        try:
            cluster.join_ray(address, "the keeper of a party")
        except PeerUnreachableError:
            if time.monotonic() > ends:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return


def words_of(error: RayError) -> str:
    """Return what to tell of a failed remote call: tacit's own words, and nobody else's, which may hold values.

    Of what a constructor raises Ray keeps the text alone.
    """
    cause = cause_of(error)
    if isinstance(cause, TacitError):
        return str(cause)
    if isinstance(error, RayActorError):
        text = str(error)
        begins = [found.end() for found in OWN.finditer(text)]
        return text[begins[-1] :].strip() if begins else "its process has ended"
    return "its process does not answer" if isinstance(error, GetTimeoutError) else type(cause).__name__


def main(path: str) -> int:
    """Keep the party of a file; return what the process ends with."""
    try:
        keep(PartyFile.read(Path(path)))
    except RayError as error:  # which may be one of tacit's at once, told with a traceback
        say("failed", error=words_of(error))
    except TacitError as error:
        say("failed", error=str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
