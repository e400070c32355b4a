"""Masks: keystreams of AES-256, added to a vector of words or wide integers where it lies.

A mask is the keystream of one 32-byte key, read as little-endian integers as wide as the vector's own: words
of Z_{2^32} or Z_{2^64}, or rows of limbs, integers modulo 2^(64·limbs), with carries from limb to limb. The
keystream is that of AES-256-GCM under the nonces 0, 1, 2, …, a segment of 4 MiB each: counter mode whose block
holds the segment in 96 bits and, counting from 2, the place in it in 32. **A key masks one contribution, once**:
whoever adds one keystream to two contributions reveals their difference. Arrays of one contribution follow one
another in the stream, each from its own `offset`.

Who learns what: a masked vector looks uniform, whatever it held, to everybody who lacks one of its keys. That
is as sure as AES-256 is a pseudorandom permutation, but for an advantage of 2^(2b − 129) at 2^b blocks of 16
bytes, since the blocks of a keystream never repeat: 2^-77 at 10^8 words of 64 bits. Whoever knows a key takes
its mask off, and no other. Nothing is authenticated, GCM's tags are not even made: whoever changes a masked vector
changes the sum.

Speed: the vector is walked once, in chunks that stay in the processor's cache while all masks are added to
them. Where the processor enciphers four blocks at once, OpenSSL does so for GCM and not for bare counter mode: half
the time, the hashing that nobody asked for included. Threads share a vector by seeking: a segment begins anywhere.

References
----------
NIST SP 800-38A, §6.5 (CTR); NIST SP 800-38D, §7.1 (the counter blocks of GCM); M. Bellare, A. Desai, E. Jokipii,
P. Rogaway, FOCS 1997 (its bound); K. Bonawitz et al., CCS 2017 (masks that cancel in the sum).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM

from .errors import MisuseError
from .key_agreement import KEY_BYTES
from .limbs import Words

CHUNK_BYTES = 2**18  # a chunk, zeros and keystream together stay in the second-level cache
BLOCK_BYTES = 16
SEGMENT_BYTES = 2**22
STREAM_BYTES = 2**96 * SEGMENT_BYTES  # after that many the segments would start anew
_FIRST_COUNTER = 2  # GCM keeps the counters before it for itself
_SKIPPED_BYTES = 2**16  # so far into a segment it is faster to throw away what comes before

_ZEROS = memoryview(bytes(CHUNK_BYTES))

Masks: TypeAlias = Sequence[tuple[bytes, int]]  # one-time key, and +1 or −1


class Keystream:
    """The keystream of one key, from some offset on, in the order of its bytes.

    Parameters
    ----------
    key : bytes
        32 bytes.
    offset : int
        Where to begin; a multiple of 16 bytes.
    """

    def __init__(self, key: bytes, offset: int = 0) -> None:
        self._key = key
        self._encryptor: CipherContext
        self._segment, within = divmod(offset, SEGMENT_BYTES)
        self._begin_segment(within)

    def fill(self, octets: memoryview) -> None:
        """Overwrite a buffer of bytes with what comes next in the stream."""
        filled = 0
        while filled < len(octets):
            if not self._left:
                self._segment += 1
                self._begin_segment(0)
            length = min(len(octets) - filled, self._left, len(_ZEROS))
            self._encryptor.update_into(_ZEROS[:length], octets[filled : filled + length])
            filled += length
            self._left -= length

    def _begin_segment(self, within: int) -> None:
        nonce = self._segment.to_bytes(12, "big")
        self._left = SEGMENT_BYTES - within
        if within <= _SKIPPED_BYTES:
            self._encryptor = Cipher(AES256(self._key), GCM(nonce)).encryptor()
            self._encryptor.update(_ZEROS[:within])
        else:
            block = nonce + (_FIRST_COUNTER + within // BLOCK_BYTES).to_bytes(4, "big")
            self._encryptor = Cipher(AES256(self._key), CTR(block)).encryptor()


def stream_bytes(vector: Words) -> int:
    """Return how far a vector advances the offset of the array after it: its bytes, in whole blocks."""
    return -(-vector.nbytes // BLOCK_BYTES) * BLOCK_BYTES


def add_masks(vector: Words, masks: Masks, *, offset: int = 0, threads: int = 1) -> None:
    """Add the masks of some keys to a vector in place, or subtract them, modulo its word size.

    **Call once per key and offset**: a mask used twice is a two-time pad. The extra memory is a chunk of
    256 KiB a thread (in a wide ring half a chunk more, for carries), and a cipher context a key and thread.

    Parameters
    ----------
    vector : ndarray of uint32 or uint64, C-contiguous
        Shape (count,), words; or uint64 of shape (count, limbs), integers as `limbs` describes them.
    masks : sequence of (bytes, int)
        Different keys of 32 bytes, each with +1 or −1.
    offset : int
        Bytes of every keystream that earlier arrays of the same contribution have used: the sum of
        their `stream_bytes`.
    threads : int
        Threads to share the vector; the result does not depend on it.

    Raises
    ------
    MisuseError
        If an argument is not as above; nothing has changed then.
    """
    _check(vector, masks, offset, threads)
    if not vector.size:
        return
    words = vector.reshape(-1)
    limbs = vector.shape[1] if vector.ndim == 2 else 1
    n_chunks = -(-len(words) // _chunk_words(words, limbs))
    unit = SEGMENT_BYTES // CHUNK_BYTES if n_chunks * CHUNK_BYTES > threads * SEGMENT_BYTES else 1
    stripe = -(-n_chunks // (threads * unit)) * unit * _chunk_words(words, limbs)

    def mask_from(start: int) -> None:
        _mask_stripe(words[start : start + stripe], limbs, masks, offset + start * words.itemsize)

    if stripe >= len(words):
        mask_from(0)
        return
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(mask_from, range(0, len(words), stripe)))


def add_masks_to_all(vectors: Sequence[Words], masks: Masks, *, threads: int = 1) -> None:
    """Add the masks of some keys to the arrays of one contribution, which follow one another in the stream.

    As `add_masks` to each with its `offset`; but a key is set up once for short arrays, which takes longer than
    masking a thousand words.

    Parameters
    ----------
    vectors : sequence of ndarray
        Each as for `add_masks`.
    masks, threads
        As for `add_masks`.

    Raises
    ------
    MisuseError
        If an argument is not as above.
    """
    offsets = list(accumulate(map(stream_bytes, vectors), initial=0))
    if offsets[-1] > CHUNK_BYTES:
        for vector, offset in zip(vectors, offsets, strict=False):
            add_masks(vector, masks, offset=offset, threads=threads)
        return
    for vector in vectors:
        _check(vector, masks, 0, threads)
    scratch = bytearray(offsets[-1])
    parts = [
        (vector.reshape(-1), _stretch(scratch, vector, offset), vector.shape[1] if vector.ndim == 2 else 1)
        for vector, offset in zip(vectors, offsets, strict=False)
        if vector.size
    ]
    for key, sign in masks:
        Keystream(key).fill(memoryview(scratch))
        combine = _add if sign == 1 else _subtract
        for words, keystream, limbs in parts:
            combine(words, keystream, limbs)


def _stretch(keystream: bytearray, vector: Words, offset: int) -> Words:
    """Return the words of a keystream that a vector takes, as a view."""
    return np.frombuffer(keystream, vector.dtype.newbyteorder("<"), vector.size, offset)


def _check(vector: Words, masks: Masks, offset: int, threads: int) -> None:
    """Refuse whatever would mask wrongly, or twice with one stretch of keystream."""
    is_words = vector.ndim == 1 and vector.dtype in (np.uint32, np.uint64)
    is_limbs = vector.ndim == 2 and vector.dtype == np.uint64
    if not (is_words or is_limbs):
        raise MisuseError(
            f"cannot mask {vector.dtype}{vector.shape}: give words (uint32 or uint64) or rows of limbs (uint64)"
        )
    if not (vector.flags.c_contiguous and vector.flags.writeable):
        raise MisuseError("a vector is masked in place: give one that is C-contiguous and writable")
    if any(len(key) != KEY_BYTES or sign not in (1, -1) for key, sign in masks):
        raise MisuseError(f"a mask is a key of {KEY_BYTES} bytes and a sign, +1 or −1")
    if len({bytes(key) for key, _ in masks}) != len(masks):
        raise MisuseError("a key is given twice: its masks would cancel, or show the lowest bits")
    if offset % BLOCK_BYTES or not 0 <= offset <= STREAM_BYTES - stream_bytes(vector):
        raise MisuseError(f"an offset is a sum of stream_bytes, a multiple of {BLOCK_BYTES}: got {offset}")
    if threads < 1:
        raise MisuseError(f"cannot mask with {threads} threads: give 1 or more")


def _chunk_words(words: Words, limbs: int) -> int:
    """Words of a chunk: whole rows, in pairs, so that chunks and blocks of the cipher start together."""
    unit = limbs * BLOCK_BYTES // words.itemsize
    return max(1, CHUNK_BYTES // words.itemsize // unit) * unit


def _mask_stripe(words: Words, limbs: int, masks: Masks, offset: int) -> None:
    """Walk consecutive words once, adding all masks chunk by chunk; `offset` is that of the first word."""
    step = min(_chunk_words(words, limbs), len(words))
    scratch = memoryview(bytearray(step * words.itemsize))
    mask = np.frombuffer(scratch, words.dtype.newbyteorder("<"))  # the same words on every machine
    streams = [(Keystream(key, offset), _add if sign == 1 else _subtract) for key, sign in masks]
    for start in range(0, len(words), step):
        chunk = words[start : start + step]
        for stream, combine in streams:
            stream.fill(scratch[: chunk.nbytes])
            combine(chunk, mask[: len(chunk)], limbs)


def _add(words: Words, mask: Words, limbs: int) -> None:
    """Add a mask in place, carries propagated within each row.

    A limb passes a carry on if the carry turns it into 0. Masked limbs are uniform, so the loop is left after
    one turn but for a chance of 2^-64 a limb, whatever was masked; it takes a turn a limb where the last mask
    comes off a negative total.
    """
    words += mask
    if limbs == 1:
        return
    carry = words < mask
    higher, highest = words[1:], carry[limbs - 1 :: limbs]
    highest[:] = False  # what leaves a row is a multiple of the modulus
    while carry.any():
        higher += carry[:-1]
        passed_on = higher == 0
        passed_on &= carry[:-1]
        carry[0], carry[1:] = False, passed_on
        highest[:] = False


def _subtract(words: Words, mask: Words, limbs: int) -> None:
    """Subtract a mask in place: words − mask = ~(~words + mask) modulo any power of two."""
    if limbs == 1:
        words -= mask
        return
    np.invert(words, out=words)
    _add(words, mask, limbs)
    np.invert(words, out=words)
