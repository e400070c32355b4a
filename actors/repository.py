"""The model repository: an actor over a folder or a URL, the one writer of results and of every aggregate's record.

Its signing key, and the key that everything is encrypted under, are read by its own process from files that are
named to it; so Ray may start it again when that dies. What it has stored is there, whole.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from ..protocols.party import COORDINATOR
from ..records.catalogue import Version
from ..records.errors import AccessError, CoSignatureError, RecordError
from ..records.fits import restored_fit
from ..records.model_card import Release
from ..records.model_store import ModelStore
from ..records.run_logs import RunLogs
from ..records.sealing import RepositoryKey
from ..records.signing import Signature, SigningKey
from ..records.transparency_log import Head
from .co_signing import ReleaseBy, co_signatures, release_among_holders
from .errors import PeerUnreachableError, cause_of

if TYPE_CHECKING:
    from ..models.fit import Fit
    from ..models.network_fit import NetworkFit
    from ..records.capability import Action
    from ..records.verification import Verification

REPOSITORY = "the repository"


class ModelRepository:
    """Stores results and the records of aggregates.

    Parameters
    ----------
    location : str
        A folder, made if it does not exist; or a URL that fsspec knows, **which nobody else writes to**.
    signing_key_file : str, optional
        64 hexadecimal digits, with which logs are signed, and cards that no coordinator signs; by default a key that
        lives as long as the process.
    repository_key_file : str, optional
        64 hexadecimal digits, under which everything is encrypted; by default the variable ``TACIT_REPOSITORY_KEY``
        of the environment, and if that is not set nothing is.
    token_keys : sequence of str
        Public keys that issue capability tokens. With some, whoever lists, loads, tags or predicts needs a token.
    """

    def __init__(
        self,
        location: str,
        *,
        signing_key_file: str | None = None,
        repository_key_file: str | None = None,
        token_keys: Sequence[str] = (),
    ) -> None:
        self._token_keys = tuple(token_keys)
        self._store = ModelStore(
            location,
            signing_key=None if signing_key_file is None else SigningKey.from_file(signing_key_file),
            repository_key=(
                RepositoryKey.from_environment(os.environ)
                if repository_key_file is None
                else RepositoryKey.from_file(repository_key_file)
            ),
        )
        self._runs = RunLogs(self._store.objects)

    async def append_aggregate(self, record: dict[str, Any]) -> int:
        """Append the record of one aggregate; repeating a call is harmless."""
        return self._store.append_aggregate(record)

    async def aggregates(self) -> list[dict[str, Any]]:
        """Every record, oldest first."""
        return await asyncio.to_thread(self._store.aggregates)

    async def write_run(self, run: str, lines: list[dict[str, Any]]) -> None:
        """Write the log of a run as far as it has come; repeating a call is harmless."""
        self._runs.write(run, lines)

    async def runs(self) -> list[dict[str, Any]]:
        """Every run, oldest first, as `RunLogs.all` has it."""
        return self._runs.all()

    async def ledger_head(self) -> Head:
        """Return size and root of the record of aggregates."""
        return self._store.ledger.head()

    async def checkpoint(self, name: str, token: str | None = None) -> bytes | None:
        """Return the file of the newest checkpoint of a run that is as it was written; None if there is none."""
        self._admit(token, "download", name)
        return await asyncio.to_thread(self._store.checkpoints.load, name)

    async def checkpoint_number(self, name: str) -> int:
        """Return the number of the newest checkpoint of a run; 0 if there is none."""
        return await asyncio.to_thread(self._store.checkpoints.newest_number, name)

    async def save_checkpoint(self, octets: bytes) -> int:
        """Write a checkpoint that follows the newest one; repeating a call is harmless."""
        return await asyncio.to_thread(self._store.checkpoints.save, octets)

    async def save(
        self,
        name: str,
        result: dict[str, Any],
        *,
        release: ReleaseBy = None,
        provenance: Mapping[str, Any] | None = None,
        request: str | None = None,
        coordinator: Any = None,
        holders: Mapping[str, Any] = MappingProxyType({}),
    ) -> int:
        """Save a result as the next version of a name.

        Parameters
        ----------
        name, result, provenance, request
            As of `ModelStore.save`.
        release : Release, "all" or int, optional
            Who must co-sign; of "all" or a number of the model's holders, they are asked here and now.
        coordinator : actor handle, optional
            Its ``sign_card`` is given the card and returns the `Signature`; without one the key of the repository
            signs.
        holders : mapping of str to actor handle
            Where each holder lives that may be asked to co-sign.

        Raises
        ------
        CoSignatureError
            If too few of the holders sign; the version is saved and pending.
        """
        if release is None or isinstance(release, Release):
            return await self._save(name, result, release, provenance, request, coordinator)
        release = await release_among_holders(coordinator, result, release)
        version = await self._save(name, result, release, provenance, request, coordinator)
        saved = self._store.find(name, version)
        card = self._store.card_bytes(saved)
        refusals: dict[str, str] = {}
        answers = await co_signatures(holders, release.signatories, card, saved.signatures[0])
        for holder, answer in answers.items():
            try:
                if isinstance(answer, str):
                    raise RecordError(answer)
                self._store.co_sign(name, version, answer)
            except RecordError as error:
                refusals[holder] = str(error)
        given = len(release.signatories) - len(refusals)
        if given < release.needed:
            raise CoSignatureError(
                name=name, version=version, needed=release.needed, given=given, refusals=refusals
            )
        return version

    async def _save(  # noqa: PLR0917 - as of `save`
        self,
        name: str,
        result: dict[str, Any],
        release: Release | None,
        provenance: Mapping[str, Any] | None,
        request: str | None,
        coordinator: Any,
    ) -> int:
        if coordinator is None:
            return self._store.save(name, result, release=release, provenance=provenance, request=request)
        while True:  # until no other version is saved while the coordinator signs
            draft = self._store.draft(name, result, release=release, provenance=provenance)
            signature = await _signature(coordinator, draft.card)
            version = self._store.commit(draft, signature, request=request)
            if version is not None:
                return version

    async def card(self, name: str, version: int | str | None = None, token: str | None = None) -> bytes:
        """Return a card as it is signed: what a holder looks at before it co-signs."""
        self._admit(token, "list", name)
        return self._store.card_bytes(self._store.find(name, version))

    async def co_sign(self, name: str, version: int, signature: Signature) -> Version:
        """Add the signature of one of those who must co-sign."""
        return self._store.co_sign(name, version, signature)

    async def load(
        self, name: str, version: int | str | None = None, token: str | None = None
    ) -> dict[str, Any]:
        """Load a released version of a result, by default the newest."""
        self._admit(token, "download", name)
        return self._store.load(name, version)

    async def versions(self, name: str, token: str | None = None) -> list[int]:
        """Return the versions of a name, oldest first."""
        self._admit(token, "list", name)
        return self._store.versions(name)

    async def listing(self, name: str | None = None, token: str | None = None) -> list[Version]:
        """Return every version, or those of a name, with status, signatures and tags."""
        self._admit(token, "list", name)
        return self._store.listing(name)

    async def tag(self, name: str, tag: str, version: int | None = None, token: str | None = None) -> int:
        """Have a tag point to a version, by default the newest released."""
        self._admit(token, "tag", name)
        return self._store.tag(name, tag, version)

    async def predict(
        self,
        name: str,
        rows: Any,
        version: int | str | None = None,
        token: str | None = None,
        module: Any = None,
    ) -> Any:
        """Return what a released fit predicts for rows; its parameters stay here."""
        self._admit(token, "predict", name)
        return await asyncio.to_thread(self._store.predict, name, rows, version, module)

    async def verify(
        self,
        name: str | None = None,
        trusted: Collection[str] = (),
        remembered: Mapping[str, Head] | None = None,
    ) -> Verification:
        """Check everything, and name what was tampered with."""
        from ..records.verification import verify  # noqa: PLC0415 - not needed to save and to load

        return await asyncio.to_thread(verify, self._store, name, trusted=trusted, remembered=remembered)

    @ray.method(concurrency_group="control")
    async def ping(self) -> int:
        """Answer at once: the number of this process."""
        return os.getpid()

    def _admit(self, token: str | None, action: Action, name: str | None) -> None:
        """Check a token; it is needed if somebody may issue some."""
        if token is None and not self._token_keys:
            return
        if token is None:
            raise AccessError(f"to {action} takes a token here")
        from ..records.capability import admit  # noqa: PLC0415

        admit(self._store, self._token_keys, token, action, name)


async def _signature(coordinator: Any, card: bytes) -> Signature:
    """Have the coordinator sign a card."""
    try:
        signature: Signature = await coordinator.sign_card.remote(card)
    except RayActorError:
        raise PeerUnreachableError(COORDINATOR) from None
    except RayTaskError as error:
        raise cause_of(error) from None
    return signature


class Repository:
    """Results by name and version, as a user sees them; made by `Federation.repository`.

    Every method has an asynchronous twin, whose name begins with ``a``: `asave`, `aload`, …

    Parameters
    ----------
    actor, aactor : callable
        Return the handle of the `ModelRepository`; the second one, for a caller's loop, to be awaited.
    get, await_remote : callable
        Wait for a remote value, given its reference and who computes it.
    coordinator : callable, optional
        Returns the handle of who signs cards.
    holders : callable, optional
        Returns where each holder lives that may co-sign.
    """

    def __init__(
        self,
        actor: Callable[[], Any],
        aactor: Callable[[], Awaitable[Any]],
        get: Callable[[Any, str], Any],
        await_remote: Callable[[Any, str], Awaitable[Any]],
        *,
        coordinator: Callable[[], Any] = lambda: None,
        holders: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._actor = actor
        self._aactor = aactor
        self._get = get
        self._await = await_remote
        self._coordinator = coordinator
        self._holders = holders

    def save(
        self,
        fit: Fit | NetworkFit,
        name: str,
        *,
        release: ReleaseBy = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> int:
        """Save a fit as the next version of a name; returns the version.

        Parameters
        ----------
        fit : Fit or NetworkFit
        name : str
            Letters, digits, dots, dashes and underscores.
        release : "all", int or Release, optional
            Who must co-sign before the version may be used; by default nobody. "all" holders whose rows are in the
            fit, or a number of them, each look at the card in their own process and sign it with their identity. A
            `Release` names others, whose signatures come by `co_sign`.
        provenance : mapping, optional
            What the card is to say beyond what the fit says: JSON-able data.

        Raises
        ------
        CoSignatureError
            If fewer holders sign than needed: who does not, and why. The version is saved, and pending.
        """
        holders = self._holders() if _asks_holders(release) else {}
        told = {"release": release, "provenance": provenance, "holders": dict(holders)}
        return int(self._get(self._saving(self._actor(), fit, name, told), REPOSITORY))

    async def asave(
        self,
        fit: Fit | NetworkFit,
        name: str,
        *,
        release: ReleaseBy = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> int:
        """Save a fit as `save` does: its asynchronous twin."""
        holders = await asyncio.to_thread(self._holders) if _asks_holders(release) else {}
        told = {"release": release, "provenance": provenance, "holders": dict(holders)}
        saving = self._saving(await self._aactor(), fit, name, told)
        return int(await self._await(saving, REPOSITORY))

    def load(self, name: str, version: int | str | None = None, token: str | None = None) -> Any:
        """Load a fit, by number or tag, by default its newest released version, with the bits it was saved with."""
        return restored_fit(self._ask("load", name, version, token))

    async def aload(self, name: str, version: int | str | None = None, token: str | None = None) -> Any:
        """Load a fit as `load` does: its asynchronous twin."""
        return restored_fit(await self._aask("load", name, version, token))

    def versions(self, name: str, token: str | None = None) -> list[int]:
        """Return the versions of a name, oldest first."""
        return list(self._ask("versions", name, token))

    async def aversions(self, name: str, token: str | None = None) -> list[int]:
        """Return the versions of a name as `versions` does: its asynchronous twin."""
        return list(await self._aask("versions", name, token))

    def listing(self, name: str | None = None, token: str | None = None) -> list[Version]:
        """Return every version, or those of a name: released or pending, who signed, which tags point to it."""
        return list(self._ask("listing", name, token))

    async def alisting(self, name: str | None = None, token: str | None = None) -> list[Version]:
        """Return every version as `listing` does: its asynchronous twin."""
        return list(await self._aask("listing", name, token))

    def card(self, name: str, version: int | str | None = None, token: str | None = None) -> bytes:
        """Return the card of a version as it is signed, also while it is pending: canonical JSON.

        What a holder looks at before it signs it, with a `records.signing.PartySigner`, for `co_sign`.
        """
        return bytes(self._ask("card", name, version, token))

    async def acard(self, name: str, version: int | str | None = None, token: str | None = None) -> bytes:
        """Return the card of a version as `card` does: its asynchronous twin."""
        return bytes(await self._aask("card", name, version, token))

    def co_sign(self, name: str, version: int, signature: Signature) -> Version:
        """Add the signature of one of those whose co-signatures a version waits for; repeating it is harmless.

        Raises
        ------
        RecordError
            If it is not of this card, or not by one of them.
        """
        signed: Version = self._ask("co_sign", name, version, signature)
        return signed

    async def aco_sign(self, name: str, version: int, signature: Signature) -> Version:
        """Add a signature as `co_sign` does: its asynchronous twin."""
        signed: Version = await self._aask("co_sign", name, version, signature)
        return signed

    def tag(self, name: str, tag: str, version: int | None = None, token: str | None = None) -> int:
        """Have a tag point to a version, by default the newest released; returns the version."""
        return int(self._ask("tag", name, tag, version, token))

    async def atag(self, name: str, tag: str, version: int | None = None, token: str | None = None) -> int:
        """Have a tag point to a version as `tag` does: its asynchronous twin."""
        return int(await self._aask("tag", name, tag, version, token))

    def predict(
        self,
        name: str,
        rows: Any,
        version: int | str | None = None,
        token: str | None = None,
        *,
        module: Any = None,
    ) -> Any:
        """Return what a fit predicts for rows, computed in the repository's process: its parameters stay there.

        Parameters
        ----------
        name : str
        rows : DataFrame
            As the fit's own `predict` takes them.
        version : int or str, optional
            Its number or a tag; by default the newest released.
        token : str, optional
            A capability, if the repository asks for one.
        module : torch.nn.Module, optional
            The architecture of a network, which is code and not stored; its own weights do not matter.

        Raises
        ------
        RecordError
            If there is no such version, or it is pending.
        AccessError
            If the token does not allow it.
        ModelError
            If the fit predicts no rows.
        """
        return self._ask("predict", name, rows, version, token, module)

    async def apredict(
        self,
        name: str,
        rows: Any,
        version: int | str | None = None,
        token: str | None = None,
        *,
        module: Any = None,
    ) -> Any:
        """Return predictions as `predict` does: its asynchronous twin."""
        return await self._aask("predict", name, rows, version, token, module)

    def verify(
        self,
        name: str | None = None,
        *,
        trusted: Collection[str] = (),
        remembered: Mapping[str, Head] | None = None,
    ) -> Verification:
        """Check every hash, signature and log, and name what was tampered with: see `records.verification`.

        Parameters
        ----------
        name : str, optional
            Whose versions; by default everything.
        trusted : collection of str
            Public keys that may have signed; by default any.
        remembered : mapping of str to Head, optional
            The ``heads`` of an earlier verification, so that nothing can be cut off since.
        """
        checked: Verification = self._ask("verify", name, trusted, remembered)
        return checked

    async def averify(
        self,
        name: str | None = None,
        *,
        trusted: Collection[str] = (),
        remembered: Mapping[str, Head] | None = None,
    ) -> Verification:
        """Check everything as `verify` does: its asynchronous twin."""
        checked: Verification = await self._aask("verify", name, trusted, remembered)
        return checked

    def _saving(self, actor: Any, fit: Fit | NetworkFit, name: str, told: Mapping[str, Any]) -> Any:
        return actor.save.remote(
            name,
            fit.to_dict(),
            request=uuid.uuid4().hex,  # Ray may call twice when the repository's process dies
            coordinator=self._coordinator(),
            **told,
        )

    def _ask(self, method: str, *arguments: Any) -> Any:
        return self._get(getattr(self._actor(), method).remote(*arguments), REPOSITORY)

    async def _aask(self, method: str, *arguments: Any) -> Any:
        actor = await self._aactor()
        return await self._await(getattr(actor, method).remote(*arguments), REPOSITORY)


def _asks_holders(release: ReleaseBy) -> bool:
    """Whether holders are to sign by themselves, in their processes."""
    return release is not None and not isinstance(release, Release)
