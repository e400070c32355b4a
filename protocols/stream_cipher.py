"""Masks: keystreams of AES-256-CTR, added to a vector of words or wide integers where it lies.

A mask is the keystream of one 32-byte key, read as little-endian integers as wide as the vector's own: words
of Z_{2^32} or Z_{2^64}, or rows of limbs, integers modulo 2^(64·limbs), with carries from limb to limb. The
counter starts at zero, so **a key masks one contribution, once**: whoever adds one keystream to two
contributions reveals their difference. Arrays of one contribution follow one another in the stream, each from
its own `offset`.

Who learns what: a masked vector looks uniform, whatever it held, to everybody who lacks one of its keys. That
is as sure as AES-256 is a pseudorandom permutation, but for an advantage of 2^(2b − 129) at 2^b blocks of 16
bytes, since the blocks of a keystream never repeat: 2^-77 at 10^8 words of 64 bits. Whoever knows a key takes
its mask off, and no other. Nothing is authenticated: whoever changes a masked vector changes the sum.

Speed: the vector is walked once, in chunks that stay in the processor's cache while all masks are added to
them. Threads share a vector by seeking: the counter of any block is known.

References
----------
NIST SP 800-38A, §6.5 (CTR); M. Bellare, A. Desai, E. Jokipii, P. Rogaway, FOCS 1997 (its bound); K. Bonawitz et
al., CCS 2017 (masks that cancel in the sum).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from .errors import MisuseError
from .key_agreement import KEY_BYTES
from .limbs import Words

CHUNK_BYTES = 2**18  # a chunk, zeros and keystream together stay in the second-level cache
BLOCK_BYTES = 16
STREAM_BYTES = 2**128 * BLOCK_BYTES  # after that many the counter would start anew

Masks: TypeAlias = Sequence[tuple[bytes, int]]  # one-time key, and +1 or −1


def stream_bytes(vector: Words) -> int:
    """Return how far a vector advances the offset of the array after it: its bytes, in whole blocks."""
    return -(-vector.nbytes // BLOCK_BYTES) * BLOCK_BYTES


def add_masks(vector: Words, masks: Masks, *, offset: int = 0, threads: int = 1) -> None:
    """Add the masks of some keys to a vector in place, or subtract them, modulo its word size.

    **Call once per key and offset**: a mask used twice is a two-time pad. The extra memory is two chunks of
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
    stripe = -(-n_chunks // threads) * _chunk_words(words, limbs)

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
    zeros, scratch = bytes(offsets[-1]), bytearray(offsets[-1])
    parts = [
        (vector.reshape(-1), _stretch(scratch, vector, offset), vector.shape[1] if vector.ndim == 2 else 1)
        for vector, offset in zip(vectors, offsets, strict=False)
        if vector.size
    ]
    for key, sign in masks:
        _encryptor(key, 0).update_into(zeros, scratch)
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
    zeros, scratch = memoryview(bytes(step * words.itemsize)), bytearray(step * words.itemsize)
    keystream = np.frombuffer(scratch, words.dtype.newbyteorder("<"))  # the same words on every machine
    ciphers = [(_encryptor(key, offset), _add if sign == 1 else _subtract) for key, sign in masks]
    for start in range(0, len(words), step):
        chunk = words[start : start + step]
        for encryptor, combine in ciphers:
            encryptor.update_into(zeros[: chunk.nbytes], scratch)
            combine(chunk, keystream[: len(chunk)], limbs)


def _encryptor(key: bytes, offset: int) -> CipherContext:
    """Return what encrypts zeros to the keystream from `offset` on."""
    counter = (offset // BLOCK_BYTES).to_bytes(BLOCK_BYTES, "big")
    return Cipher(AES256(key), CTR(counter)).encryptor()


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
