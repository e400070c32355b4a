"""The keeper of a party's process: what it tells of what went wrong, and that it tells nothing else."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deployed import party_file
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError
from tacit.actors import cluster, party_keeper
from tacit.actors.deployed_hosts import NOT_THERE, UNREACHED
from tacit.actors.errors import PeerUnreachableError
from tacit.actors.party_keeper import words_of
from tacit.models.errors import DataError
from tacit.protocols.errors import SetupError
from tacit.records.errors import RecordError
from tacit.records.party_file import RepositoryPlace


def task_error(raised: Exception) -> RayTaskError:
    return RayTaskError("start", traceback.format_exc(), raised)  # type: ignore[no-untyped-call]


def remote(error: Exception) -> RayTaskError:
    """An error as Ray hands it on from a method."""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001 - of any kind
        return task_error(raised).as_instanceof_cause()  # type: ignore[no-untyped-call, no-any-return]


def constructor(error: Exception) -> ActorDiedError:
    """An error as Ray hands it on from a constructor: as text."""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001 - of any kind
        return ActorDiedError(task_error(raised))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (remote(DataError("source 'sprays': it cannot be read")), "source 'sprays': it cannot be read"),
        (
            constructor(RecordError("the ledger is damaged: move it away")),
            "the ledger is damaged: move it away",
        ),
        (constructor(RecordError("two\nlines: of it")), "two\nlines: of it"),
        (remote(ValueError("a row: 17")), "RayTaskError(ValueError)"),
        (constructor(ValueError("a row: 17")), "its process has ended"),
        (ActorDiedError(), "its process has ended"),
        (GetTimeoutError("x"), "its process does not answer"),
    ],
)
def test_failure_is_told_in_words_of_ours_and_nobody_elses(error: RayError, told: str) -> None:
    assert words_of(error) == told


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_file_that_is_not_in_order_is_told_without_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert party_keeper.main(str(tmp_path / "none.toml")) == 1
    [failed] = events(capsys)
    assert failed["event"] == "failed"
    assert "none.toml" in failed["error"]


@pytest.mark.parametrize(
    "error",
    [
        remote(DataError("source 'sprays': it cannot be read")),
        DataError("source 'sprays': it cannot be read"),
    ],
)
def test_what_keeps_a_party_from_starting_is_one_line(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own error is one of tacit's as well, and its text a traceback."""

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(party_keeper, "_reach_ray", failing)
    assert party_keeper.main(str(party_file(tmp_path, "north"))) == 1
    assert events(capsys) == [{"event": "failed", "error": "source 'sprays': it cannot be read"}]


def test_ray_that_is_still_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def join_ray(address: str, user: str) -> None:
        tries.append(address)
        if len(tries) < 3:
            raise PeerUnreachableError("Ray's head")

    monkeypatch.setattr(cluster, "join_ray", join_ray)
    monkeypatch.setattr(party_keeper, "RETRY_SECONDS", 0.0)
    party_keeper._reach_ray("10.1.0.1:6379")
    assert tries == ["10.1.0.1:6379"] * 3


def test_ray_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def join_ray(address: str, user: str) -> None:
        raise PeerUnreachableError("Ray's head", remedy="start it")

    monkeypatch.setattr(cluster, "join_ray", join_ray)
    monkeypatch.setattr(party_keeper, "RAY_SECONDS", -1.0)
    with pytest.raises(PeerUnreachableError, match="start it"):
        party_keeper._reach_ray("10.1.0.1:6379")


# Its stay


class Remote:
    """A method of an actor: each call has the next answer, or the last one again."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def remote(self) -> Any:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class FakeRay:
    """Gives an answer for what is one, and raises an error; the process ends after some looks."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def get(self, reference: Any, timeout: float | None = None) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return reference

    def wait(self, references: list[Any], *, timeout: float) -> tuple[list[Any], list[Any]]:
        self._looks -= 1
        return (references, []) if self._looks < 0 else ([], references)


@pytest.fixture
def ahead() -> list[dict[str, int]]:
    """What the party knows of clocks when it is asked; a test changes it."""
    return [{}]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, ahead: list[dict[str, int]]) -> list[str]:
    """What was made, in its order."""
    order: list[str] = []

    def start_party(study: str, name: str, kind: str, path: str, machine: str) -> Any:
        order.append(f"{kind} {name} on {machine}")
        assert Path(path).is_absolute()
        return SimpleNamespace(
            mute=Remote(None),
            start=Remote({"east": "not there yet"}),
            watch=Remote(ActorDiedError()),
            problems=Remote({"east": "not there yet"}, {"east": "not there yet"}, {}, {}),
            clocks_ahead=Remote(*ahead),
        )

    def start_repository(study: str, name: str, place: RepositoryPlace) -> Any:
        order.append(place.folder)
        return SimpleNamespace(ledger_head=Remote(b""))

    monkeypatch.setattr(party_keeper, "_reach_ray", lambda _: None)
    monkeypatch.setattr(party_keeper, "ray", FakeRay(looks=5))
    monkeypatch.setattr(cluster, "start_party", start_party)
    monkeypatch.setattr(cluster, "start_deployed_repository", start_repository)
    return order


def test_keeper_tells_when_the_party_is_ready_and_whenever_others_come_or_go(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert party_keeper.main(str(party_file(tmp_path, "north"))) == 1
    assert events(capsys) == [
        {
            "event": "ready",
            "party": "north",
            "study": "Insect sprays",
            "not_met": {"east": "not there yet"},
        },
        {"event": "parties", "not_met": {}},
        {"event": "failed", "error": "its process has ended"},
    ]
    assert made == ["holder north on north"]


def test_keeper_tells_of_clocks_before_the_party_is_ready_and_when_others_come(
    tmp_path: Path, made: list[str], ahead: list[dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    ahead[:] = {"coordinator": 3600}, {"coordinator": 3600, "east": -61}
    party_keeper.main(str(party_file(tmp_path, "north")))
    told = events(capsys)
    assert [event["event"] for event in told] == ["clocks", "ready", "clocks", "parties", "failed"]
    assert [told[0]["ahead"], told[2]["ahead"]] == ahead
    assert "this machine's clock is 3600 s behind that of coordinator" in told[0]["told"]


def test_repository_is_there_before_the_coordinator_looks_for_it(tmp_path: Path, made: list[str]) -> None:
    party_keeper.main(str(party_file(tmp_path, "coordinator")))
    assert made == [
        str(tmp_path / "coordinator" / "state" / "repository"),
        "coordinator coordinator on coordinator",
    ]


def test_party_on_the_machine_of_another_is_made_there(tmp_path: Path, made: list[str]) -> None:
    file = party_file(tmp_path, "north")
    study = file.parent / "study.toml"
    study.write_text(study.read_text().replace('name = "north"', 'name = "north"\nmachine = "coordinator"'))
    party_keeper.main(str(file))
    assert made == ["holder north on coordinator"]


def test_process_that_never_answers_is_not_kept(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper ends, with it the process, and both are started again."""
    host = SimpleNamespace(
        mute=Remote(None),
        start=Remote({}),
        watch=Remote(None),
        problems=Remote(GetTimeoutError("x")),
        clocks_ahead=Remote({}),
    )
    monkeypatch.setattr(cluster, "start_party", lambda *_: host)
    assert party_keeper.main(str(party_file(tmp_path, "north"))) == 1
    assert events(capsys)[-1] == {"event": "failed", "error": "its process does not answer"}


def test_process_that_cannot_be_muted_reads_no_rows(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads them when it starts."""
    monkeypatch.setattr(cluster, "start_party", lambda *_: SimpleNamespace(mute=Remote(GetTimeoutError("x"))))
    assert party_keeper.main(str(party_file(tmp_path, "north"))) == 1
    assert events(capsys) == [{"event": "failed", "error": "its process does not answer"}]


def test_second_process_of_a_party_is_told(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_party(*_: Any) -> None:
        raise SetupError("a process of north is there already")

    monkeypatch.setattr(cluster, "start_party", start_party)
    assert party_keeper.main(str(party_file(tmp_path, "north"))) == 1
    assert events(capsys) == [{"event": "failed", "error": "a process of north is there already"}]


@pytest.mark.parametrize(
    ("name", "before", "is_kept"),
    [("north", {}, False), ("north", {"east": UNREACHED}, True), ("coordinator", {}, True)],
    ids=["a holder", "a holder that never met it", "the coordinator"],
)
def test_process_that_reaches_no_longer_whom_it_had_met_is_made_anew(
    name: str,
    before: dict[str, str],
    is_kept: bool,
    tmp_path: Path,
    made: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once: what has never been met is the network's doing. The coordinator is beside Ray's head, and hears of all."""
    host = SimpleNamespace(
        mute=Remote(None),
        start=Remote(before),
        watch=Remote(ActorDiedError()),
        problems=Remote(before, {"east": NOT_THERE}, {"east": UNREACHED}),
        clocks_ahead=Remote({}),
    )
    monkeypatch.setattr(cluster, "start_party", lambda *_: host)
    assert party_keeper.main(str(party_file(tmp_path, name))) == 1
    failed = events(capsys)[-1]["error"]
    assert (
        "its process has ended" if is_kept else "east is there, and is not reached from here any longer"
    ) in failed
