"""What has left was charged before, whoever dies when; and what does not fit is refused."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tacit.privacy.accounting import Charge, epsilon_of
from tacit.privacy.guarantee import Privacy
from tacit.records.budget import Budget
from tacit.records.errors import BudgetError, PolicyError, RecordError

PRIVACY = Privacy(1.0, 1e-5, clip=1.0)
ROUND = Charge(noise_multiplier=20.0)  # 100 of them cost 2.1657


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(tmp_path / "budget", epsilon=3.0, delta=1e-5)


def again(budget: Budget) -> Budget:
    return Budget(budget.path, epsilon=budget.epsilon, delta=budget.delta)


def test_nothing_is_spent_at_first(budget: Budget) -> None:
    assert (budget.charges(), budget.spent, budget.left) == ([], 0.0, 3.0)
    assert not budget.path.exists()


def test_charges_compose_and_are_there_when_it_is_opened_again(budget: Budget) -> None:
    charges = [
        ROUND,
        Charge(noise_multiplier=9.0, rounds=7),
        Charge(noise_multiplier=2.0, sampling=0.01, rounds=3),
    ]
    spent = [budget.charge(PRIVACY, charge, "a test") for charge in charges]
    assert spent == [epsilon_of(charges[: n + 1], 1e-5) for n in range(3)]
    assert again(budget).charges() == charges
    assert again(budget).spent == spent[-1]
    assert again(budget).left == 3.0 - spent[-1]


def test_a_re_run_is_a_new_charge(budget: Budget) -> None:
    for _ in range(2):
        budget.charge(PRIVACY, ROUND, "the same session")
    assert budget.charges() == [ROUND, ROUND]


def test_what_does_not_fit_is_refused_and_not_charged(budget: Budget) -> None:
    hundred = Charge(noise_multiplier=20.0, rounds=100)
    budget.charge(PRIVACY, hundred, "first")
    with pytest.raises(BudgetError, match="such rounds would fit") as refusal:
        budget.charge(PRIVACY, hundred, "second")
    assert budget.charges() == [hundred]
    error = refusal.value
    assert (round(error.spent, 4), error.limit, error.rounds) == (2.1657, 3.0, 100)
    assert error.asked > error.limit
    budget.charge(PRIVACY, Charge(noise_multiplier=20.0, rounds=error.rounds_left), "what is left")
    with pytest.raises(BudgetError, match="0 of 1 such rounds"):
        budget.charge(PRIVACY, ROUND, "one more")


def test_a_cost_that_is_no_number_is_refused(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.records.budget.epsilon_of", lambda *_: float("nan"))
    with pytest.raises(BudgetError):
        budget.charge(PRIVACY, ROUND, "a test")
    assert budget.charges() == []


def test_a_whole_fit_of_just_the_budget_fits(budget: Budget) -> None:
    privacy = Privacy(3.0, 1e-5, clip=1.0)
    charge = privacy.charge(privacy.noise_plan(n_holders=5, dimension=9, fraction_bits=24, rounds=40))
    for number in range(40):
        budget.charge(privacy, charge, f"round {number}")
    assert budget.left < 1e-3
    with pytest.raises(BudgetError):
        budget.charge(privacy, charge, "one more")


def test_a_raised_budget_has_room_again(budget: Budget) -> None:
    hundred = Charge(noise_multiplier=20.0, rounds=100)
    budget.charge(PRIVACY, hundred, "first")
    raised = Budget(budget.path, epsilon=4.0, delta=1e-5)
    assert raised.charge(PRIVACY, hundred, "second") > 3.0


def test_the_refusal_survives_pickling(budget: Budget) -> None:
    with pytest.raises(BudgetError) as refusal:
        budget.charge(PRIVACY, Charge(noise_multiplier=0.1), "too much")
    copy = pickle.loads(pickle.dumps(refusal.value))
    assert (str(copy), copy.rounds_left) == (str(refusal.value), 0)
    assert isinstance(copy, PolicyError)


@pytest.mark.parametrize(
    "privacy",
    [Privacy(1.0, 1e-5, clip=1.0, unit="holder"), Privacy(1.0, 1e-5, clip=1.0, adjacency="replace-one")],
    ids=str,
)
def test_a_budget_protects_one_kind_of_unit(budget: Budget, privacy: Privacy) -> None:
    with pytest.raises(PolicyError, match="this budget is kept for"):
        budget.charge(privacy, ROUND, "another unit")
    assert budget.charges() == []


def test_a_file_kept_for_others_is_not_opened(budget: Budget) -> None:
    budget.charge(PRIVACY, ROUND, "first")
    with pytest.raises(PolicyError, match="keep another"):
        Budget(budget.path, epsilon=3.0, delta=1e-5, unit="holder")


@pytest.mark.parametrize("limits", [(0.0, 1e-5), (float("nan"), 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_a_budget_of_impossible_numbers_is_refused(tmp_path: Path, limits: tuple[float, float]) -> None:
    with pytest.raises(PolicyError, match="a budget has"):
        Budget(tmp_path / "budget", epsilon=limits[0], delta=limits[1])


# On disk


def test_only_its_owner_reads_it(budget: Budget) -> None:
    budget.charge(PRIVACY, ROUND, "first")
    assert stat.S_IMODE(budget.path.stat().st_mode) == 0o600


def test_a_line_without_its_end_was_not_charged(budget: Budget) -> None:
    budget.charge(PRIVACY, ROUND, "first")
    whole = budget.path.read_bytes()
    budget.charge(PRIVACY, ROUND, "second")
    line = budget.path.read_bytes()[len(whole) :]
    for length in range(len(line)):
        budget.path.write_bytes(whole + line[:length])
        assert again(budget).charges() == [ROUND]
    budget.charge(PRIVACY, ROUND, "second")
    assert budget.path.read_bytes() == whole + line


def test_a_first_write_may_be_cut_anywhere(budget: Budget) -> None:
    budget.charge(PRIVACY, ROUND, "first")
    whole = budget.path.read_bytes()
    for length in range(0, len(whole), 7):
        budget.path.write_bytes(whole[:length])
        again(budget).charge(PRIVACY, ROUND, "first")
        assert budget.path.read_bytes() == whole


def test_any_changed_byte_is_found_and_nothing_is_charged(budget: Budget) -> None:
    for purpose in ("first", "second"):
        budget.charge(PRIVACY, ROUND, purpose)
    whole = budget.path.read_bytes()
    for place in range(len(whole) - 1):  # without its end, the last line was not charged
        changed = bytearray(whole)
        changed[place] ^= 1
        budget.path.write_bytes(changed)
        with pytest.raises(RecordError, match="damaged"):
            budget.charge(PRIVACY, ROUND, "third")
        assert budget.path.read_bytes() == changed


@pytest.mark.parametrize("kept", [[0, 2], [1, 2], [0, 2, 1], [0, 1, 1, 2]])
def test_lost_and_moved_lines_are_found(budget: Budget, kept: list[int]) -> None:
    for _ in range(2):
        budget.charge(PRIVACY, ROUND, "the same")
    lines = budget.path.read_bytes().splitlines(keepends=True)
    budget.path.write_bytes(b"".join(lines[number] for number in kept))
    with pytest.raises(RecordError, match="damaged"):
        again(budget)


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_charge_that_is_not_on_disk_is_an_error(
    budget: Budget, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    budget.charge(PRIVACY, ROUND, "first")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RecordError, match="No space left"):
        budget.charge(PRIVACY, ROUND, "second")
    monkeypatch.undo()
    assert budget.charge(PRIVACY, ROUND, "third") > 0


def test_the_charge_is_flushed_to_disk_before_it_returns(
    budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size if stat.S_ISREG(os.fstat(descriptor).st_mode) else -1)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    budget.charge(PRIVACY, ROUND, "first")
    assert sizes == [budget.path.stat().st_size, -1], "the file, then its folder"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="make it first"):
        Budget(tmp_path / "gone" / "budget", epsilon=3.0, delta=1e-5)


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        Budget(tmp_path, epsilon=3.0, delta=1e-5)


# Many writers, and their deaths


def test_threads_spend_no_more_than_there_is(budget: Budget) -> None:
    part = Charge(noise_multiplier=20.0, rounds=10)
    allowed = 0
    while epsilon_of([part] * (allowed + 1), 1e-5) <= budget.epsilon:
        allowed += 1

    def charge(_: int) -> bool:
        try:
            again(budget).charge(PRIVACY, part, "a thread")
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(6) as executor:
        assert sum(executor.map(charge, range(allowed + 6))) == allowed
    assert again(budget).charges() == [part] * allowed


WRITER = """
import sys
from tacit.privacy.accounting import Charge
from tacit.privacy.guarantee import Privacy
from tacit.records.budget import Budget
budget = Budget(sys.argv[1], epsilon=1000.0, delta=1e-5)
for n in range(1, 1_000_000):
    budget.charge(Privacy(1.0, 1e-5, clip=1.0), Charge(noise_multiplier=100.0), "x" * 5000)
    print(n, flush=True)
"""


@pytest.mark.parametrize("n_charged", [1, 6])
def test_a_killed_process_has_charged_all_that_it_let_go(budget: Budget, n_charged: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(budget.path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(n_charged)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
        process.wait()
    found = again(budget).charges()
    assert len(found) >= told[-1]
    assert set(found) == {Charge(noise_multiplier=100.0)}
    budget.charge(PRIVACY, ROUND, "the lock is free again")
    assert again(budget).charges() == [*found, ROUND]
