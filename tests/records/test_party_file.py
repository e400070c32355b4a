"""A party's file: what it says, and every mix-up, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from studies import identity_of, parties_text, secret_of, study_text, write_identity, write_study
from tacit.records.budget import Budget
from tacit.records.data_source import CsvSource
from tacit.records.errors import RecordError
from tacit.records.identity_file import fingerprint, make_identity
from tacit.records.party_file import PartyFile, RayPlace, RepositoryPlace

HOLDER = """\
study = "study.toml"
party = "north"
identity = "north.identity"
state = "state"

[data.sprays]
csv = "rows.csv"
"""
COORDINATOR = HOLDER.replace("north", "coordinator").partition("[data")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_study(tmp_path, study_text(rest="[rules]\nminimum_rows = 20"))
    for name, kind in (("north", "holder"), ("coordinator", "coordinator")):
        write_identity(tmp_path, name, kind)
    (tmp_path / "rows.csv").write_text("count,spray\n1,A\n2,B\n")
    return tmp_path


def read(folder: Path, text: str = HOLDER, mode: int = 0o644) -> PartyFile:
    path = folder / "party.toml"
    path.write_text(text)
    path.chmod(mode)
    return PartyFile.read(path)


def test_file_says_who_this_is_and_where_its_rows_are(folder: Path) -> None:
    party = read(folder)
    assert party.party == identity_of("north", "holder").public == party.identity.public
    assert isinstance(party.source(), CsvSource)
    assert list(party.source().read()["count"]) == [1, 2]
    assert party.study.title == "Insect sprays"
    assert (party.repository, party.ray) == (None, RayPlace(None, start=True, certificates=None))


def test_party_on_the_machine_of_another_leaves_ray_to_it(folder: Path) -> None:
    text = study_text().replace('name = "north"', 'name = "north"\nmachine = "coordinator"')
    write_study(folder, text)
    assert not read(folder).ray.start
    with pytest.raises(RecordError, match=r"\[ray\], start: the study has this party on another's machine"):
        read(folder, HOLDER + "[ray]\nstart = true")


def test_relative_paths_start_from_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    read(folder)
    monkeypatch.chdir(folder)
    assert PartyFile.read("party.toml").state == folder / "state"
    monkeypatch.chdir(folder / "elsewhere")
    assert PartyFile.read("../party.toml").state.samefile(folder / "state")


def test_state_is_made_for_its_owner_alone(folder: Path) -> None:
    assert read(folder).state.stat().st_mode & 0o777 == 0o700


def test_state_that_others_may_enter_is_refused(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state").chmod(0o755)
    with pytest.raises(RecordError, match=r"may read .*state \(mode 0755\): chmod go="):
        read(folder)


def test_policy_is_no_laxer_than_the_rules_of_the_study(folder: Path) -> None:
    assert (read(folder).policy.minimum_rows, read(folder).policy.minimum_holders) == (20, 3)
    stricter = read(folder, HOLDER + '[policy]\nminimum_rows = 30\nmodels = ["GLM"]').policy
    assert (stricter.minimum_rows, stricter.models) == (30, ("GLM",))


@pytest.mark.parametrize(
    ("rules", "own", "allowed"),
    [
        ("", "", 0),  # a loss fails, so nobody asks over fewer and means well
        ("", "set_changes = 2", 0),
        ("set_changes = 1", "", 1),
        ('on_dropout = "continue"', "", None),
        ('on_dropout = "continue"', "set_changes = 2", 2),
        ('on_dropout = "continue"\nset_changes = 1', "set_changes = 2", 1),
        ('on_dropout = "continue"\nset_changes = 3', "set_changes = 2", 2),
    ],
)
def test_the_set_of_holders_may_change_as_often_as_study_and_policy_allow(
    folder: Path, rules: str, own: str, allowed: int | None
) -> None:
    write_study(folder, study_text(rest=f"[rules]\n{rules}"))
    assert read(folder, HOLDER + f"[policy]\n{own}").policy.set_changes == allowed


def test_budget_is_kept_in_state(folder: Path) -> None:
    party = read(folder, HOLDER + "[policy]\nepsilon = 2.0\ndelta = 1e-6")
    assert party.policy.folder == str(party.state)
    assert isinstance(party.policy.budget("north"), Budget)
    assert not read(folder).policy.has_budget


def test_coordinator_keeps_a_repository_and_no_rows(folder: Path) -> None:
    (folder / "key").write_text("00" * 32)
    (folder / "key").chmod(0o600)
    rest = '[repository]\nfolder = "repository"\nsigning_key_file = "key"'
    party = read(folder, COORDINATOR + rest)
    assert party.repository == RepositoryPlace(str(folder / "repository"), folder / "key", None)
    assert party.sources == {}
    with pytest.raises(RecordError, match="describes no source 'sprays': only holders need one"):
        party.source()
    remote = read(folder, COORDINATOR + '[repository]\nfolder = "s3://bucket/models"').repository
    assert remote is not None
    assert remote.folder == "s3://bucket/models"


def test_ray_has_its_place(folder: Path) -> None:
    (folder / "certificates").mkdir()
    text = '[ray]\nip = "10.1.0.2"\nstart = false\ncertificates = "certificates"'
    assert read(folder, HOLDER + text).ray == RayPlace("10.1.0.2", False, folder / "certificates")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            HOLDER.replace('party = "north"', 'party = "west"'),
            "party: the study 'Insect sprays' has no party 'west'",
        ),
        (HOLDER.replace("state =", "sate ="), "sate: is not known here; is state meant?"),
        (HOLDER.replace("study.toml", "gone.toml"), "gone.toml cannot be read: No such file"),
        (HOLDER.replace("north.identity", "gone"), "gone cannot be read: No such file"),
        (
            HOLDER.replace("data.sprays", "data.spray"),
            "data: the study asks for 'sprays', and the sources here are spray",
        ),
        (HOLDER.replace("rows.csv", "gone.csv"), "[data.sprays], csv: there is no file"),
        (
            HOLDER + "[policy]\nminimum_row = 3",
            "[policy], minimum_row: is not known here; is minimum_rows meant?",
        ),
        (HOLDER + "[policy]\nminimum_rows = -3", "[policy]: minimum_rows is a whole number from 0"),
        (HOLDER + '[policy]\nfolder = "x"', "[policy], folder: the budget is kept in the folder `state`"),
        (HOLDER + "[policy]\nepsilon = 1.0", "[policy]: a budget takes epsilon, delta"),
        (HOLDER + '[repository]\nfolder = "x"', "[repository]: the repository is the coordinator's"),
        (HOLDER + '[ray]\nip = "10.1.0"', "[ray], ip: '10.1.0' is no address of a machine"),
        (HOLDER + '[ray]\ncertificates = "gone"', "[ray], certificates: there is no folder"),
        (COORDINATOR + '[repository]\nfolder = "x"\nsigning_key_file = "gone"', "gone cannot be read"),
        (
            COORDINATOR + '[repository]\nfolder = "x"\nsigning_key_file = "rows.csv"',
            "rows.csv (mode 0644): chmod",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(folder: Path, text: str, says: str) -> None:
    (folder / "rows.csv").chmod(0o644)
    with pytest.raises(RecordError) as caught:
        read(folder, text)
    assert says in str(caught.value)


def test_identity_of_another_party_is_refused_with_both_fingerprints(folder: Path) -> None:
    with pytest.raises(RecordError) as caught:
        read(folder, HOLDER.replace("north.identity", "coordinator.identity"))
    for party in (identity_of("north", "holder"), identity_of("coordinator", "coordinator")):
        assert fingerprint(party.public) in str(caught.value)


def test_identity_whose_keys_the_study_has_not_is_refused(folder: Path) -> None:
    (folder / "north.identity").unlink()
    make_identity(folder / "north.identity", "north", "holder", lambda n: bytes(range(n)))
    with pytest.raises(
        RecordError, match=r"is the identity of the holder north, .*; the study has the holder north"
    ):
        read(folder)


def test_identity_that_others_may_read_is_refused(folder: Path) -> None:
    (folder / "north.identity").chmod(0o644)
    with pytest.raises(RecordError, match="chmod go="):
        read(folder)


def test_file_that_others_may_change_is_refused(folder: Path) -> None:
    with pytest.raises(RecordError, match=r"may change .*party\.toml \(mode 0664\): chmod go-w"):
        read(folder, mode=0o664)


def test_fault_of_the_study_is_told_of_the_study(folder: Path) -> None:
    write_study(folder, study_text(parties=parties_text([("north", "holder")])))
    with pytest.raises(
        RecordError, match=r"study\.toml, \[\[party\]\]: a roster has exactly one coordinator"
    ):
        read(folder)


def test_nothing_secret_is_shown(folder: Path) -> None:
    party = read(folder)
    shown = repr(party) + json.dumps(party.to_dict())
    assert secret_of("north").hex()[:16] not in shown
    assert fingerprint(party.party) in shown
