"""Many integers in one Paillier plaintext, so that adding plaintexts adds every integer by itself.

A plaintext, from the lowest bit up::

    | slot 0 | slot 1 | ... | zeros | check slot | flag |        slots of whole bytes

A value v with |v| ≤ R stands in its slot as v + R, in [0, 2R]; the slot has room for 2·m·R, so that the sum
over exactly m holders never carries into the next one. The check slot holds a tag of 64 bits that depends on
session, holder and chunk; its top bit is set, so every plaintext has the same full length. After m additions
the check slot must be the sum of the m tags: a lost, a doubled or a foreign contribution shows, where a mere
count would be fooled by one doubled and one missing.

The flag, 32 bits, is zero in every packed plaintext. A holder that cannot contribute puts uniform elements in
the place of all its plaintexts: then the flags of all totals are uniform, and whoever unpacks learns that some
holder could not, not which. One altered total shows in its own flag only; so a packing has at least two
plaintexts, to tell the one from the other.

Tags are no secret. They find faults and mixed-up sessions; a holder that lies within the bounds of its own
values shifts the sum unseen, here as in every protocol.

Packing as in Ge and Zdonik 2007 (Answering aggregation queries in a secure system model); the bias for signs,
the tags and the flag are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .encoding import ArrayEncoding
from .errors import InvalidMessageError, MisuseError, RangeError, SetupError, VoidedError
from .limbs import Limbs, add_limbs, integers_to_limbs

TAG_BITS = 64
FLAG_BITS = 32
MINIMUM_PLAINTEXTS = 2
_TOP_BIT = np.uint64(1 << (TAG_BITS - 1))
_TAGS_PER_DIGEST = 8
_Rows = NDArray[np.uint8]  # (count, width): one slot a row, little-endian


@dataclass(frozen=True)
class SlotGroup:
    """Arrays whose values need slots of the same width, side by side in the same plaintexts.

    Attributes
    ----------
    width : int
        Bytes of a slot.
    members : tuple of int
        Indices of the arrays.
    n_values : int
        Values of all members.
    per_plaintext : int
        Slots in one plaintext.
    """

    width: int
    members: tuple[int, ...]
    n_values: int
    per_plaintext: int

    @property
    def n_plaintexts(self) -> int:
        """Plaintexts of this group; the last one may have empty slots."""
        return -(-self.n_values // self.per_plaintext)


@dataclass(frozen=True)
class Packing:
    """Where each value of a contribution stands in the plaintexts; made by `packing_for`.

    Attributes
    ----------
    encodings : tuple of ArrayEncoding
    n_contributions : int
        m: exactly so many plaintexts are added.
    body_bytes : int
        Bytes below the check slot, the same for all plaintexts.
    groups : tuple of SlotGroup
        Widest slots first; their plaintexts follow one another.
    """

    encodings: tuple[ArrayEncoding, ...]
    n_contributions: int
    body_bytes: int
    groups: tuple[SlotGroup, ...]

    @property
    def n_plaintexts(self) -> int:
        """Plaintexts of one contribution; those that hold no value have a check slot and a flag."""
        return max(MINIMUM_PLAINTEXTS, sum(group.n_plaintexts for group in self.groups))

    def pack(self, limbs_by_array: Sequence[Limbs], tags: Sequence[int]) -> list[int]:
        """Pack one holder's encoded arrays.

        Parameters
        ----------
        limbs_by_array : sequence of ndarray of uint64, shape (size, limbs)
            In the order of the encodings.
        tags : sequence of int
            One tag for each plaintext, from `tags`.

        Returns
        -------
        list of int
            n_plaintexts integers of full length.

        Raises
        ------
        RangeError
            An integer exceeds the bound of its encoding.
        MisuseError
            The wrong arrays or tags.
        """
        self._check_arguments(limbs_by_array, tags)
        bodies = [self._pack_group(group, limbs_by_array) for group in self.groups]
        checks = np.array(tags, dtype="<u8").view(np.uint8).reshape(-1, TAG_BITS // 8)
        n_empty = self.n_plaintexts - sum(len(body) for body in bodies)
        rows = np.hstack([np.vstack([*bodies, self._empty_bodies(n_empty)]), checks])
        return [int.from_bytes(row, "little") for row in _row_bytes(rows)]

    def unpack(self, totals: Sequence[int], expected_tags: Sequence[int]) -> list[Limbs]:
        """Check the sums of m plaintexts and take them apart.

        Parameters
        ----------
        totals : sequence of int
            n_plaintexts sums.
        expected_tags : sequence of int
            The sums of all holders' tags, from `expected_tags`.

        Returns
        -------
        list of ndarray of uint64, shape (size, limbs)
            The signed total of every array, in the order of the encodings.

        Raises
        ------
        VoidedError
            Every flag is set: some holder could not contribute.
        InvalidMessageError
            A check slot is not the sum of the tags, a slot exceeds 2·m·R, or a bit outside the slots is set.
        """
        if len(totals) != self.n_plaintexts or len(expected_tags) != self.n_plaintexts:
            raise InvalidMessageError(f"{len(totals)} totals, expected {self.n_plaintexts}")
        flags_start = 8 * self.body_bytes + _check_bits(self.n_contributions)
        if all(total >> flags_start for total in totals):
            raise VoidedError
        bodies = self._checked_bodies(totals, expected_tags)
        unpacked: list[Limbs] = [np.empty((0, 0), dtype=np.uint64)] * len(self.encodings)
        start = 0
        for group in self.groups:
            slots = self._unpack_group(group, bodies[start : start + group.n_plaintexts])
            start += group.n_plaintexts
            taken = 0
            for member in group.members:
                encoding = self.encodings[member]
                unpacked[member] = self._unbias(encoding, slots[taken : taken + encoding.size])
                taken += encoding.size
        if bodies[start:].any():
            raise InvalidMessageError("a total has values where there are none")
        return unpacked

    def _check_arguments(self, limbs_by_array: Sequence[Limbs], tags: Sequence[int]) -> None:
        """Refuse arrays or tags that are not this packing's."""
        shapes = [limbs.shape for limbs in limbs_by_array]
        expected = [(encoding.size, encoding.limbs) for encoding in self.encodings]
        if shapes != expected:
            raise MisuseError(
                f"limbs of shapes {shapes}, expected {expected}: encode with the plan's encodings"
            )
        if len(tags) != self.n_plaintexts or any(tag >> (TAG_BITS - 1) != 1 for tag in tags):
            raise MisuseError(f"expected {self.n_plaintexts} tags with the top one of {TAG_BITS} bits set")

    def _empty_bodies(self, count: int) -> _Rows:
        return np.zeros((count, self.body_bytes), dtype=np.uint8)

    def _pack_group(self, group: SlotGroup, limbs_by_array: Sequence[Limbs]) -> _Rows:
        """Return the bodies of one group's plaintexts, shape (n_plaintexts, body_bytes)."""
        slots = np.zeros((group.n_plaintexts * group.per_plaintext, group.width), dtype=np.uint8)
        taken = 0
        for member in group.members:
            encoding = self.encodings[member]
            biased = add_limbs(limbs_by_array[member], _constant(encoding.bound, encoding))
            if _exceeds(biased, 2 * encoding.bound).any():
                raise RangeError(f"an integer of array {encoding.name!r} exceeds its bound: encode it again")
            slots[taken : taken + encoding.size] = _limbs_to_bytes(biased)[:, : group.width]
            taken += encoding.size
        used = group.per_plaintext * group.width
        bodies = self._empty_bodies(group.n_plaintexts)
        bodies[:, :used] = slots.reshape(group.n_plaintexts, used)
        return bodies

    def _checked_bodies(self, totals: Sequence[int], expected_tags: Sequence[int]) -> _Rows:
        """Compare every check slot; return what is below, shape (n_plaintexts, body_bytes)."""
        body_bits = 8 * self.body_bytes
        below = (1 << body_bits) - 1
        octets = bytearray()
        for chunk, (total, expected) in enumerate(zip(totals, expected_tags, strict=True)):
            # The shift keeps the flag too: where it is set in some totals only, they were altered.
            if total >> body_bits != expected:
                raise InvalidMessageError(
                    f"the check slot of plaintext {chunk} is not the sum of the {self.n_contributions} tags: "
                    "a contribution is missing, doubled or of another session"
                )
            octets += (total & below).to_bytes(self.body_bytes, "little")
        return np.frombuffer(octets, dtype=np.uint8).reshape(-1, self.body_bytes)

    def _unpack_group(self, group: SlotGroup, bodies: _Rows) -> _Rows:
        """Return the slots of one group, shape (n_values, width), after checking that all else is zero."""
        used = group.per_plaintext * group.width
        slots = bodies[:, :used].reshape(-1, group.width)
        if bodies[:, used:].any() or slots[group.n_values :].any():
            raise InvalidMessageError(
                "a total has bits outside its slots: some contribution was not packed as agreed"
            )
        return slots[: group.n_values]

    def _unbias(self, encoding: ArrayEncoding, slots: _Rows) -> Limbs:
        """Check one array's slots and subtract the bias of m holders."""
        limbs = _bytes_to_limbs(slots, encoding.limbs)
        bias = self.n_contributions * encoding.bound
        if _exceeds(limbs, 2 * bias).any():
            raise InvalidMessageError(
                f"a total of array {encoding.name!r} exceeds what {self.n_contributions} holders can sum to"
            )
        return add_limbs(limbs, _constant(-bias, encoding))


def packing_for(encodings: Sequence[ArrayEncoding], n_contributions: int, capacity_bits: int) -> Packing:
    """Lay out the plaintexts for sums of exactly n_contributions contributions.

    Parameters
    ----------
    encodings : sequence of ArrayEncoding
        From `encoding.plan`, for the same n_contributions.
    n_contributions : int
        m, the holders in the ring.
    capacity_bits : int
        Every sum of m plaintexts is below 2^capacity_bits. For a modulus of b bits: b − 1.

    Raises
    ------
    SetupError
        Not even one slot of the widest array fits beside the check slot.
    """
    needed = required_bits(encodings, n_contributions)
    if needed > capacity_bits:
        raise SetupError(
            f"a plaintext of {capacity_bits} bits holds no slot ({needed} bits needed): use a longer key, "
            "or FixedPoint(bound)"
        )
    body_bytes = (capacity_bits - FLAG_BITS - _check_bits(n_contributions)) // 8
    widths = [_slot_bytes(encoding, n_contributions) for encoding in encodings]
    by_width = sorted(range(len(encodings)), key=lambda index: -widths[index])
    groups = []
    for width, indices in groupby(by_width, key=lambda index: widths[index]):
        members = tuple(indices)
        n_values = sum(encodings[index].size for index in members)
        groups.append(SlotGroup(width, members, n_values, per_plaintext=body_bytes // width))
    return Packing(tuple(encodings), n_contributions, body_bytes, tuple(groups))


def required_bits(encodings: Sequence[ArrayEncoding], n_contributions: int) -> int:
    """Return the capacity in bits that the widest single slot, the check slot and the flag need.

    Raises
    ------
    SetupError
        An encoding was planned for another number of contributions.
    """
    for encoding in encodings:
        if encoding.n_contributions != n_contributions:
            raise SetupError(
                f"array {encoding.name!r} is planned for {encoding.n_contributions} contributions, "
                f"not {n_contributions}: plan again for this roster"
            )
    widest = max((_slot_bytes(encoding, n_contributions) for encoding in encodings), default=1)
    return 8 * widest + _check_bits(n_contributions) + FLAG_BITS


def tags(session: bytes, holder: str, count: int) -> list[int]:
    """Return the tags of a holder's first `count` plaintexts: 64 bits each, the top bit set.

    Each BLAKE2b digest over session, holder and block number, personalised for this use, gives eight tags.
    """
    n_blocks = -(-count // _TAGS_PER_DIGEST)
    octets = b"".join(_tag_block(session, holder, block) for block in range(n_blocks))
    words: list[int] = (np.frombuffer(octets, dtype="<u8")[:count] | _TOP_BIT).tolist()
    return words


def tag(session: bytes, holder: str, chunk: int) -> int:
    """Return the tag of one plaintext of a holder, equal to ``tags(session, holder, chunk + 1)[chunk]``."""
    block, place = divmod(chunk, _TAGS_PER_DIGEST)
    octets = _tag_block(session, holder, block)[8 * place : 8 * place + 8]
    return int.from_bytes(octets, "little") | int(_TOP_BIT)


def expected_tags(session: bytes, holders: Iterable[str], count: int) -> list[int]:
    """Return what the check slots must hold after all holders have contributed."""
    columns = [tags(session, holder, count) for holder in holders]
    return [sum(column) for column in zip(*columns, strict=True)]


def _tag_block(session: bytes, holder: str, block: int) -> bytes:
    """Hash length-prefixed fields, so that no two differ only in where one ends."""
    name = holder.encode()
    digest = hashlib.blake2b(digest_size=8 * _TAGS_PER_DIGEST, person=b"tacit ring tag 1")
    digest.update(len(session).to_bytes(8, "little") + session)
    digest.update(len(name).to_bytes(8, "little") + name)
    digest.update(block.to_bytes(8, "little"))
    return digest.digest()


def _check_bits(n_contributions: int) -> int:
    """Bits of a sum of 2·m tags: room for doubled contributions to show here and not in the flag."""
    return (2 * n_contributions * ((1 << TAG_BITS) - 1)).bit_length()


def _slot_bytes(encoding: ArrayEncoding, n_contributions: int) -> int:
    """Whole bytes that hold 2·m·R."""
    return max(1, -(-(2 * n_contributions * encoding.bound).bit_length() // 8))


def _constant(value: int, encoding: ArrayEncoding) -> Limbs:
    """Return one row of limbs, modulo 2^(64·limbs)."""
    bits = 64 * encoding.limbs
    signed = (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    return integers_to_limbs([signed], encoding.limbs)


def _exceeds(limbs: Limbs, largest: int) -> NDArray[np.bool_]:
    """Tell which rows, read as unsigned integers, exceed `largest`."""
    greater = np.zeros(len(limbs), dtype=bool)
    for limb in range(limbs.shape[1]):
        word = np.uint64((largest >> (64 * limb)) & (2**64 - 1))
        column = limbs[:, limb]
        greater = (column > word) | ((column == word) & greater)
    return greater


def _limbs_to_bytes(limbs: Limbs) -> _Rows:
    """Return each row as little-endian bytes, shape (count, 8·limbs)."""
    octets: _Rows = np.ascontiguousarray(limbs, dtype="<u8").view(np.uint8)
    return octets


def _bytes_to_limbs(rows: _Rows, limbs: int) -> Limbs:
    """Return rows of little-endian bytes as unsigned integers, padded to `limbs` limbs."""
    padded = np.zeros((len(rows), 8 * limbs), dtype=np.uint8)
    padded[:, : rows.shape[1]] = rows
    return padded.view("<u8").astype(np.uint64)


def _row_bytes(rows: _Rows) -> Iterable[bytes]:
    """Yield the bytes of each row."""
    octets = rows.tobytes()
    width = rows.shape[1]
    return (octets[at : at + width] for at in range(0, len(octets), width))
