"""A party's private file, holder.toml or coordinator.toml: its identity, its rows, and what it insists on.

It stays on the party's machine and says where everything of the party's is; relative paths start from its own folder.
It holds no secret itself, so others may read it, but not change it: it decides which rows are asked, and under which
policy. The files of keys and passwords that it names are for their owner alone.

Adversary: other users of the machine; and a mix-up: a file of another study or another party is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..protocols.key_agreement import Identity
from ..protocols.party import COORDINATOR, HOLDER
from ..serialization.session_messages import Party
from .data_source import DataSource, sources_from
from .errors import RecordError
from .identity_file import fingerprint, read_identity
from .policy import Policy
from .private_files import check_private, check_unchanged_by_others, private_folder
from .study import Study
from .toml_tables import Table, read_table

KEYS = ("study", "party", "identity", "state", "data", "policy", "repository", "ray")


@dataclass(frozen=True)
class RepositoryPlace:
    """Where the coordinator keeps models: a folder or URL, and the files of the keys that sign and seal.

    Attributes
    ----------
    folder : str
    signing_key_file, repository_key_file : path or None
        Without the first the coordinator's identity signs; without the second nothing is encrypted.
    """

    folder: str
    signing_key_file: Path | None
    repository_key_file: Path | None


@dataclass(frozen=True)
class RayPlace:
    """How Ray runs on this machine.

    Attributes
    ----------
    ip : str or None
        This machine's address in the cluster; None leaves it to Ray.
    start : bool
        Whether it is started here, or runs already: on the machine of another party, that party starts it.
    certificates : path or None
        The folder of this machine's certificate and token, as `python -m tacit keys cluster` makes them.
    insecure : bool
        Whether several machines may join without.
    dashboard : bool
        Whether the coordinator's Ray has its dashboard, on this machine only, as ``ray job submit`` takes; it needs
        ``tacit[deploy]``.
    metrics : bool
        Whether the Ray that is started here exports metrics, with ``tacit[deploy]``: to whoever reaches this machine.
    """

    ip: str | None
    start: bool
    certificates: Path | None
    insecure: bool = False
    dashboard: bool = False
    metrics: bool = False


@dataclass(frozen=True)
class PartyFile:
    """What a party's file says, checked against the study.

    Attributes
    ----------
    path : path
        The file.
    study : Study
    party : Party
        Who this is, as the study pins it.
    identity : Identity
        Its long-term keys: *never sent*.
    state : path
        The folder of budget, ledger and memories, for its owner alone.
    sources : mapping of str to DataSource
    policy : Policy
        The party's own, and no laxer than the study's rules about rows and holders.
    repository : RepositoryPlace or None
        The coordinator's.
    ray : RayPlace
    """

    path: Path
    study: Study
    party: Party
    identity: Identity = field(repr=False)
    state: Path
    sources: Mapping[str, DataSource]
    policy: Policy
    repository: RepositoryPlace | None
    ray: RayPlace

    @property
    def ledger(self) -> Path:
        """The folder of the party's ledger."""
        return self.state / "ledger"

    @property
    def releases(self) -> Path:
        """The file in which the party remembers what it has released."""
        return self.state / "releases"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PartyFile:
        """Read and check a party's file, and make its folder `state`; no row is read.

        Raises
        ------
        RecordError
            With the file, the table and the key, what is wrong, and what helps.
        """
        top, _ = read_table(path)
        check_unchanged_by_others(path)
        top.only(KEYS)
        folder = Path(path).absolute().parent
        study = Study.read(folder / top.get("study", str))
        party = _party(top, study)
        state = private_folder(folder / top.get("state", str))
        return cls(
            path=Path(path),
            study=study,
            party=party,
            identity=_identity(top, folder, party),
            state=state,
            sources=_sources(top, folder, study, party),
            policy=_policy(top.table("policy"), state, study),
            repository=_repository(top, folder, party),
            ray=_ray(top.table("ray"), folder, study.machines[party.name] == party.name),
        )

    def source(self) -> DataSource:
        """Return the source that the study's question is about.

        Raises
        ------
        RecordError
            If there is none, at a party that is no holder.
        """
        if self.study.data not in self.sources:
            raise RecordError(f"{self.path} describes no source {self.study.data!r}: only holders need one")
        return self.sources[self.study.data]

    def to_dict(self) -> dict[str, Any]:
        """Return what there is to say of the file as JSON-able data, nothing secret."""
        return {
            "file": str(self.path),
            "party": self.party.name,
            "kind": self.party.kind,
            "fingerprint": fingerprint(self.party),
            "study": self.study.to_dict(),
            "state": str(self.state),
            "sources": {name: str(source) for name, source in self.sources.items()},
            "policy": {key: value for key, value in vars(self.policy).items() if value is not None},
            "repository": None if self.repository is None else self.repository.folder,
            "ip": self.ray.ip,
        }


def _party(top: Table, study: Study) -> Party:
    name = top.get("party", str)
    try:
        return study.party(name)
    except RecordError as error:
        raise top.problem(str(error), "party") from None


def _identity(top: Table, folder: Path, party: Party) -> Identity:
    """Return the identity, if the study has its public keys."""
    file = top.get("identity", str)
    identity = read_identity(folder / file)
    if identity.public != party:
        of = identity.public
        raise top.problem(
            f"{file} is the identity of the {of.kind} {of.name}, {fingerprint(of)}; the study has the {party.kind} "
            f"{party.name}, {fingerprint(party)}: take the file of this party, or have the study's keys corrected at "
            "every party",
            "identity",
        )
    return identity


def _sources(top: Table, folder: Path, study: Study, party: Party) -> Mapping[str, DataSource]:
    sources = sources_from(top.table("data"), folder)
    if party.kind == HOLDER and study.data not in sources:
        raise top.problem(
            f"the study asks for {study.data!r}, and the sources here are {', '.join(sources) or 'none'}: describe it "
            f"in a table [data.{study.data}]",
            "data",
        )
    return sources


def _policy(table: Table, state: Path, study: Study) -> Policy:
    """Return the policy, its budget kept in `state`, and no laxer than the study's rules."""
    if "folder" in table:
        raise table.problem("the budget is kept in the folder `state` of this file: leave it out", "folder")
    own = Table(table.file, table.name, {**table.content, "folder": str(state)}).made(Policy)
    set_changes = [number for number in (own.set_changes, study.set_changes) if number is not None]
    return replace(
        own,
        minimum_rows=max(own.minimum_rows, study.minimum_rows),
        minimum_holders=max(own.minimum_holders, study.minimum_holders),
        set_changes=min(set_changes, default=None),
    )


def _repository(top: Table, folder: Path, party: Party) -> RepositoryPlace | None:
    if "repository" not in top:
        return None
    if party.kind != COORDINATOR:
        raise top.problem("the repository is the coordinator's: leave the table out", "[repository]")
    table = top.table("repository")
    table.only(("folder", "signing_key_file", "repository_key_file"))
    place = table.get("folder", str)
    return RepositoryPlace(
        folder=place if "://" in place else str(folder / place),
        signing_key_file=_key_file(table, "signing_key_file", folder),
        repository_key_file=_key_file(table, "repository_key_file", folder),
    )


def _key_file(table: Table, key: str, folder: Path) -> Path | None:
    file = table.optional(key, str)
    if file is None:
        return None
    check_private(folder / file)
    return folder / file


def _ray(table: Table, folder: Path, is_own_machine: bool) -> RayPlace:
    table.only(("ip", "start", "certificates", "insecure", "dashboard", "metrics"))
    ip, certificates = table.optional("ip", str), table.optional("certificates", str)
    try:
        ip_address(ip or "127.0.0.1")
    except ValueError:
        raise table.problem(f'{ip!r} is no address of a machine, such as "10.1.0.2"', "ip") from None
    if certificates is not None and not (folder / certificates).is_dir():
        raise table.problem(f"there is no folder {folder / certificates}", "certificates")
    start = table.get("start", bool, is_own_machine)
    if start and not is_own_machine:
        raise table.problem(
            "the study has this party on another's machine, where that one starts Ray", "start"
        )
    metrics = table.get("metrics", bool, False)
    if metrics and not start:
        raise table.problem(
            "metrics are exported by the Ray of this machine, and it is not started here", "metrics"
        )
    return RayPlace(
        ip=ip,
        start=start,
        certificates=None if certificates is None else folder / certificates,
        insecure=table.get("insecure", bool, False),
        dashboard=table.get("dashboard", bool, False),
        metrics=metrics,
    )
