"""Attacks on pairwise masking: mostly by a coordinator that lies, with as many holders as may pool with it.

What it does with what it learns is told in `masking_crook`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..serialization.pairwise_masking_messages import MaskedInput
from .adversary import Adversary, Loot, Values, adversary
from .attacks_on_sessions import difference, replay_to
from .cohort import Cohort
from .key_agreement import KEY_BYTES
from .masking_crook import Crook, Names, unmasked
from .masking_epoch import Dealings, commitment
from .meeting import Meeting
from .pairwise_masking import PairwiseMasking
from .party import PartyId

LIAR = "a coordinator that lies, and its holders"
SHARES = "the threshold: too few holders give a share of the second secret"
GUESSED_BITS = 16


def without(survivors: Names, lost: Names) -> Names:
    """Return those who are left."""
    return tuple(holder for holder in survivors if holder not in lost)


# Both secrets


@adversary("both secrets of a holder are asked for", LIAR)
def both_secrets(cohort: Cohort) -> Loot:
    """Let a holder survive the first sum of a round, and be lost in a second one of the same round."""
    crook, victim = Crook(cohort), cohort.victim
    first = crook.sum()
    again = crook.sum(
        factor=3, same_round=True, story=lambda holder, survivors, _: without(survivors, (victim,))
    )
    return Loot(crook.open_input(first, victim), (first.run, again.run), victim, hidden_by=SHARES)


@adversary("different survivors are told to different holders", LIAR)
def split_survivors(cohort: Cohort) -> Loot:
    """Tell as many as it takes that a holder survives, and the others that it is lost."""
    crook, victim = Crook(cohort), cohort.victim

    def story(holder: PartyId, survivors: Names, dealings: Dealings) -> Names:
        keepers = dealings.graph.keepers[victim]
        honest = [keeper for keeper in keepers if keeper not in crook.hoards]
        n_accomplices = len(keepers) - len(honest)
        second_half = honest[max(1, dealings.graph.threshold - n_accomplices) :]
        return without(survivors, (victim,)) if holder in second_half else survivors

    crooked = crook.sum(story=story)
    return Loot(crook.open_input(crooked, victim), (crooked.run,), victim, hidden_by=SHARES)


@adversary("different dealers are told to different holders", LIAR)
def split_dealers(cohort: Cohort) -> Loot:
    """Tell one holder of as few dealers as may be, so that it masks with few, and the others that these are lost."""
    crook, victim = Crook(cohort), cohort.victim
    n_honest = crook.protocol.needed(len(cohort.roster.holders)) - len(crook.hoards)
    honest = [holder for holder in cohort.roster.holders if holder not in crook.hoards]
    few = tuple(h for h in cohort.roster.holders if h in crook.hoards or h in honest[: max(1, n_honest)])
    lost = without(few, (victim, *crook.hoards))

    def story(holder: PartyId, survivors: Names, _: Dealings) -> Names:
        return few if holder == victim else without(survivors, without(lost, (holder,)))

    crooked = crook.sum(story=story, told_dealers={victim: few})
    return Loot(crook.open_input(crooked, victim), (crooked.run,), victim, hidden_by=SHARES)


# A sum of one


@adversary("one holder is told that only accomplices have dealt", LIAR)
def few_dealers(cohort: Cohort) -> Loot:
    """Have a holder mask with nobody but accomplices."""
    crook, victim = Crook(cohort), cohort.victim
    crooked = crook.sum(told_dealers={victim: (victim, *cohort.accomplices)})
    return Loot(crook.open_input(crooked, victim), (crooked.run,), victim, hidden_by=SHARES)


@adversary("all but one holder and accomplices are called lost", LIAR)
def few_survivors(cohort: Cohort) -> Loot:
    """Ask one holder and the accomplices to unmask the sum over themselves."""
    crook, victim = Crook(cohort), cohort.victim
    left = (victim, *cohort.accomplices)
    crooked = crook.sum(story=lambda holder, survivors, _: left)
    return Loot(crook.open_input(crooked, victim), (crooked.run,), victim, hidden_by=SHARES)


# Losses


@adversary("an input arrives after its holder was declared lost", LIAR)
def late_input(cohort: Cohort) -> Loot:
    """Declare a holder lost whose input is there all the same, and take off it what opens then."""
    crook, victim = Crook(cohort), cohort.victim
    crooked = crook.sum(story=lambda holder, survivors, _: without(survivors, (victim,)))
    value = crook.open_input(crooked, victim, self_mask=False)
    hidden_by = "the self mask: the seed of a holder that was declared lost is never opened"
    return Loot(value, (crooked.run,), victim, hidden_by=hidden_by, sees="its pairwise seeds of that round")


@adversary("a recovery uncovers other sums", LIAR)
def recovery(cohort: Cohort) -> Loot:
    """Sum with a holder, declare it lost in the next round, and try what opens then on the first."""
    crook, victim = Crook(cohort), cohort.victim
    first = crook.sum()
    later = crook.sum(factor=3, story=lambda holder, survivors, _: without(survivors, (victim,)))
    value = crook.open_input(first, victim)
    hidden_by = "an opening key for every round: it fits no other round's seeds"
    return Loot(
        value, (first.run, later.run), victim, hidden_by=hidden_by, sees="the seeds of the second round"
    )


@adversary("the same question without a holder that is called lost", LIAR)
def called_lost(cohort: Cohort) -> Loot:
    """Sum over all, then ask the same again and declare one holder lost on the way."""
    crook, victim = Crook(cohort), cohort.victim
    first = crook.sum()
    again = crook.sum(story=lambda holder, survivors, _: without(survivors, (victim,)))
    totals = [crook.total(crooked, crooked.told.get(cohort.accomplices[0], ())) for crooked in (first, again)]
    return Loot(difference(*totals), (first.run, again.run), victim, sees="the sum over all")


# Keys


@adversary("a round's keys are used for a second sum", "the coordinator")
def two_time_pad(cohort: Cohort) -> Loot:
    """Name a round twice, for two questions, and subtract the masked inputs."""
    crook, victim = Crook(cohort), cohort.victim
    first, again = crook.sum(factor=1), crook.sum(factor=2, same_round=True)
    value = _change(first.meeting, first.inputs.get(victim), again.inputs.get(victim))
    return Loot(value, (first.run, again.run), victim, hidden_by="the binding to the question in every mask")


@adversary("seeds are guessed", "the coordinator")
def guessed_seeds(cohort: Cohort) -> Loot:
    """Compare what the holders have committed themselves to with 2^16 seeds, and open what they fit."""
    crook, victim = Crook(cohort), cohort.victim
    crooked = crook.sum()
    epoch, index = crooked.parameters.epoch, crooked.parameters.index
    guesses = {commitment(epoch, index, seed): seed for seed in _short_seeds()}
    for peer, committed in crooked.dealings.seed_commitments(victim, index).items():
        if committed in guesses:
            crook.know(epoch, index, victim, peer, guesses[committed])
    hidden_by = f"the length of a seed: 2^{GUESSED_BITS} of 2^{8 * KEY_BYTES} were tried"
    return Loot(crook.open_input(crooked, victim), (crooked.run,), victim, hidden_by=hidden_by)


def _short_seeds() -> Iterator[bytes]:
    return (number.to_bytes(KEY_BYTES, "little") for number in range(2**GUESSED_BITS))


@adversary("a session is replayed after a restart", "the coordinator")
def replay(cohort: Cohort) -> Loot:
    """Have a holder answer a second time in one session, when its input has changed, and subtract."""
    first = Meeting(cohort, sealed=False)
    first.run()
    again, run = replay_to(cohort, cohort.victim, first)
    inputs = [_input_of(meeting, cohort.victim) for meeting in (first, again)]
    return Loot(_change(first, *inputs), (run,), cohort.victim, prize="change", hidden_by="fresh keys")


def _input_of(meeting: Meeting, holder: PartyId) -> MaskedInput | None:
    return next((masked for sender, _, masked in meeting.seen(MaskedInput) if sender == holder), None)


def _change(meeting: Meeting, first: MaskedInput | None, again: MaskedInput | None) -> Values | None:
    """Return by how much a masked input has changed, if its masks have not."""
    if first is None or again is None:
        return None
    changes = [
        new - old for old, new in zip((first.flag, *first.vectors), (again.flag, *again.vectors), strict=True)
    ]
    return unmasked(meeting.opened(), changes, [])


ALWAYS: tuple[Adversary, ...] = (replay,)
OF_EPOCHS: tuple[Adversary, ...] = (
    both_secrets,
    split_survivors,
    split_dealers,
    few_dealers,
    few_survivors,
    late_input,
    recovery,
    called_lost,
    two_time_pad,
    guessed_seeds,
)


def attacks_on(protocol: PairwiseMasking) -> tuple[Adversary, ...]:
    """Return the attacks that a mode is to withstand: direct mode has neither epochs nor recovery."""
    return (*OF_EPOCHS, *ALWAYS) if protocol.mode == "resilient" else ALWAYS
