"""The Paillier cryptosystem: whoever holds ciphertexts can add, only the key owner can read.

Modulus n = p·q, ciphertexts in Z*_{n²}, generator 1 + n:

    E(m; r) = (1 + n)^m · r^n = (1 + m·n) · r^n   (mod n²)      0 ≤ m < n, r in Z*_n
    E(a) · E(b) = E(a + b mod n)                                the sum of plaintexts
    E(a) · E(b)^-1 = E(a − b mod n)
    D(c)                                                        by the factors of n (`paillier_keys`), then CRT

`r^n` is the *noise*: without it a ciphertext is its plaintext, read off by a division.  Here it is a
parameter without a default (`paillier_noise`), each entry multiplies one ciphertext and is gone, and a
ciphertext is nothing but fixed-width big-endian bytes: no exponent that follows the magnitude, no
re-randomisation deferred until somebody asks.

Who learns what.  Under the decisional composite residuosity assumption a curious party without the
key learns nothing about plaintexts.  **The key owner reads every ciphertext that it sees**, so frames
between holders are sealed from it.  Nothing here is verified: a ciphertext proves neither its plaintext's
range nor that its sender knows it, and anybody can shift a sum.

Honest limits.  GMP's arithmetic is not constant time: an observer of precise timings on the same machine
is outside the model.  What a stranger's modulus may hide is told in `paillier_keys`.

References
----------
P. Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999
(scheme 1; section 7 for decryption by CRT).  I. Damgård, M. Jurik, J. B. Nielsen, "A generalization of
Paillier's public-key system with applications to electronic voting", Int. J. Inf. Secur. 9, 2010 (the
noise).  phe (python-paillier) is the oracle of the tests.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Sequence, Sized
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray
from phe import PaillierPrivateKey

from .errors import InvalidMessageError, MisuseError, RangeError
from .paillier_keys import PrivateKey, PublicKey
from .secret import RandomBytes

if TYPE_CHECKING:
    from .paillier_noise import NoisePool

Ciphertexts: TypeAlias = NDArray[np.uint8]  # (count, ciphertext_bytes), big-endian


# Integers and bytes


def random_units(modulus: mpz, count: int, random_bytes: RandomBytes) -> list[mpz]:
    """Draw uniform invertible elements modulo `modulus`, by rejection."""
    bits = modulus.bit_length()
    width = (bits + 7) // 8
    mask = (mpz(1) << bits) - 1
    units: list[mpz] = []
    while len(units) < count:
        drawn = random_bytes(width * (count - len(units)))
        candidates = (mpz.from_bytes(drawn[i : i + width], "big") & mask for i in range(0, len(drawn), width))
        below = [candidate for candidate in candidates if candidate < modulus]
        if not _all_units(below, modulus):
            below = [candidate for candidate in below if gmpy2.gcd(candidate, modulus) == 1]
        units += below
    return units


def _all_units(values: Iterable[mpz], modulus: mpz) -> bool:
    """Whether all values are prime to the modulus: one gcd, with their product."""
    product = mpz(1)
    for value in values:
        product = product * value % modulus
    return bool(gmpy2.gcd(product, modulus) == 1)


def _check_shape(public_key: PublicKey, ciphertexts: Ciphertexts) -> None:
    """Refuse what is no matrix of bytes of the key's width."""
    width = public_key.ciphertext_bytes
    if not isinstance(ciphertexts, np.ndarray) or ciphertexts.dtype != np.uint8:
        raise InvalidMessageError("ciphertexts must be an array of bytes (uint8)")
    if ciphertexts.ndim != 2 or ciphertexts.shape[1] != width:
        raise InvalidMessageError(
            f"ciphertexts of shape {ciphertexts.shape} where (count, {width}) fits the key: another key's?"
        )


def _to_integers(public_key: PublicKey, ciphertexts: Ciphertexts) -> list[mpz]:
    """Read ciphertexts; their shape and dtype are checked, their values are not."""
    _check_shape(public_key, ciphertexts)
    width, data = public_key.ciphertext_bytes, ciphertexts.tobytes()
    return [mpz.from_bytes(data[i : i + width], "big") for i in range(0, len(data), width)]


def _to_ciphertexts(public_key: PublicKey, values: Iterable[mpz]) -> Ciphertexts:
    """Write integers as a read-only array of fixed-width big-endian bytes."""
    width = public_key.ciphertext_bytes
    data = b"".join([value.to_bytes(width, "big") for value in values])
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, width)


def _to_plaintexts(public_key: PublicKey, plaintexts: Sequence[SupportsIndex]) -> list[mpz]:
    """Check that plaintexts are integers in [0, n): nothing is rounded and nothing wraps around."""
    modulus = public_key.modulus
    checked: list[mpz] = []
    for index, plaintext in enumerate(plaintexts):
        try:
            value = mpz(operator.index(plaintext))
        except TypeError:
            raise RangeError(f"the plaintext at index {index} is no integer: encode it first") from None
        if not 0 <= value < modulus:
            raise RangeError(f"the plaintext at index {index} lies outside [0, n): encode it first")
        checked.append(value)
    return checked


def _same_count(first: Sized, second: Sized) -> None:
    """Refuse vectors of different lengths, which zip would cut to the shorter."""
    if len(first) != len(second):
        raise MisuseError(f"vectors of {len(first)} and {len(second)} entries cannot be combined")


# Steps


def encrypt(public_key: PublicKey, plaintexts: Sequence[SupportsIndex], noise: NoisePool) -> Ciphertexts:
    """Encrypt integers, each with noise of its own.

    Parameters
    ----------
    public_key : PublicKey
        The reader's key.
    plaintexts : sequence of int
        Integers (or numpy's) in [0, n).
    noise : NoisePool
        A pool for the same key; as many entries are used up.

    Returns
    -------
    Ciphertexts
        Read-only, shape (len(plaintexts), ciphertext_bytes).

    Raises
    ------
    RangeError
        If a plaintext is no integer or outside [0, n); no noise is used then.
    MisuseError
        If the noise is for another key.
    """
    return _to_ciphertexts(public_key, _fresh(public_key, plaintexts, noise))


def _fresh(public_key: PublicKey, plaintexts: Sequence[SupportsIndex], noise: NoisePool) -> list[mpz]:
    """Encrypt to integers modulo n²."""
    checked = _to_plaintexts(public_key, plaintexts)
    if noise.public_key != public_key:
        raise MisuseError("the noise pool belongs to another key")
    modulus = public_key.modulus
    encrypted = []
    for plaintext, entry in zip(checked, noise.take(len(checked)), strict=True):
        # With noise = low + high·n, (1 + m·n) · noise = low + (high + low·m)·n (mod n²): half the digits.
        high, low = gmpy2.f_divmod(entry, modulus)
        encrypted.append(low + (high + low * plaintext) % modulus * modulus)
    return encrypted


def add_encrypted(
    public_key: PublicKey, ciphertexts: Ciphertexts, plaintexts: Sequence[SupportsIndex], noise: NoisePool
) -> Ciphertexts:
    """Add plaintexts under the encryption and re-randomise: what a holder of the ring sends on.

    The result is the incoming ciphertext times a *fresh* encryption, so whoever sees both can not tell
    what was added, nor even whether anything was.

    Parameters
    ----------
    public_key : PublicKey
        The reader's key.
    ciphertexts : Ciphertexts
        The incoming partial sums, **after `validate_ciphertexts`**.
    plaintexts : sequence of int
        One integer in [0, n) for each; sums are modulo n.
    noise : NoisePool
        A pool for the same key.

    Raises
    ------
    RangeError, MisuseError, InvalidMessageError
        As `encrypt`; for vectors of different lengths; for ciphertexts of a foreign shape.
    """
    incoming = _to_integers(public_key, ciphertexts)
    _same_count(incoming, plaintexts)
    modulus_squared = public_key.modulus_squared
    own = _fresh(public_key, plaintexts, noise)
    return _to_ciphertexts(public_key, [a * b % modulus_squared for a, b in zip(incoming, own, strict=True)])


def add(public_key: PublicKey, first: Ciphertexts, second: Ciphertexts) -> Ciphertexts:
    """Encrypt the sums of two vectors of plaintexts, modulo n.

    **Not re-randomised: never send the result to anybody who may have seen the operands.**
    """
    _check_shape(public_key, first)
    _check_shape(public_key, second)
    _same_count(first, second)
    a, b = first.tobytes(), second.tobytes()
    read, width, modulus_squared = mpz.from_bytes, public_key.ciphertext_bytes, public_key.modulus_squared
    # One ciphertext after the other, from bytes to bytes, so that a long vector stays in the processor's cache.
    data = b"".join(
        [
            (read(a[i : i + width], "big") * read(b[i : i + width], "big") % modulus_squared).to_bytes(
                width, "big"
            )
            for i in range(0, len(a), width)
        ]
    )
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, width)


def subtract(public_key: PublicKey, first: Ciphertexts, second: Ciphertexts) -> Ciphertexts:
    """Encrypt the differences first − second of two vectors of plaintexts, modulo n.

    **Not re-randomised**, as `add`.

    Raises
    ------
    InvalidMessageError
        If an entry of `second` is not invertible modulo n².
    """
    return add(public_key, first, invert(public_key, second))


def invert(public_key: PublicKey, ciphertexts: Ciphertexts) -> Ciphertexts:
    """Encrypt the negatives of plaintexts, modulo n; **not re-randomised**, as `add`.

    One inversion for all of them, then three products each.

    Raises
    ------
    InvalidMessageError
        If an entry is not invertible modulo n².

    References
    ----------
    P. L. Montgomery, "Speeding the Pollard and elliptic curve methods of factorization", 1987, §10.3.1.
    """
    values = _to_integers(public_key, ciphertexts)
    modulus_squared = public_key.modulus_squared
    products = [mpz(1)]  # products[i] = values[0] ⋯ values[i − 1]
    for value in values:
        products.append(products[-1] * value % modulus_squared)
    try:
        inverse = gmpy2.invert(products[-1], modulus_squared)
    except ZeroDivisionError:
        raise InvalidMessageError("a ciphertext is no invertible element modulo n²") from None
    inverses = []
    for value, product in zip(reversed(values), products[-2::-1], strict=True):
        inverses.append(inverse * product % modulus_squared)
        inverse = inverse * value % modulus_squared
    return _to_ciphertexts(public_key, reversed(inverses))


def divide(public_key: PublicKey, ciphertexts: Ciphertexts, offset: Ciphertexts) -> Ciphertexts:
    """Take the offset c0 out of the last partial sum: c · c0^-1, an encryption of the sum alone.

    Raises
    ------
    InvalidMessageError, MisuseError
        As `subtract`.
    """
    return subtract(public_key, ciphertexts, offset)


def random_ciphertexts(public_key: PublicKey, count: int, random_bytes: RandomBytes) -> Ciphertexts:
    """Draw uniform elements of Z*_{n²}: encryptions of uniform plaintexts that nobody has chosen.

    Every element of the group is (1 + n)^m r^n for exactly one pair (m, r), so no encryption is needed.
    """
    return _to_ciphertexts(public_key, random_units(public_key.modulus_squared, count, random_bytes))


def validate_ciphertexts(
    public_key: PublicKey, ciphertexts: Ciphertexts, *, sender: str, key_id: bytes | None = None
) -> None:
    """Check that received bytes are ciphertexts under the key, before anything is computed with them.

    Parameters
    ----------
    public_key : PublicKey
        The key that the session agreed upon.
    ciphertexts : Ciphertexts
        What arrived.
    sender : str
        Named as the culprit.
    key_id : bytes, optional
        The key that the message names.  **Another key's ciphertexts mostly pass all other checks**, and
        decrypt to noise.

    Raises
    ------
    InvalidMessageError
        If the key, the shape, the dtype or a value's range is wrong, or a value shares a factor with n.
    """
    try:
        if key_id is not None and key_id != public_key.key_id:
            raise InvalidMessageError("the ciphertexts are for another key")
        values = _to_integers(public_key, ciphertexts)
        modulus_squared = public_key.modulus_squared
        if not all(0 < value < modulus_squared for value in values):
            raise InvalidMessageError("a ciphertext lies outside 1 … n² − 1")
        if not _all_units(values, public_key.modulus):
            raise InvalidMessageError("a ciphertext shares a factor with the modulus")
    except InvalidMessageError as error:
        raise InvalidMessageError(error.problem, culprits=[sender]) from None


def decrypt(
    private_key: PrivateKey,
    ciphertexts: Ciphertexts,
    threads: int | None = None,
    *,
    executor: Executor | None = None,
) -> list[int]:
    """Decrypt by the Chinese remainder theorem, modulo p² and q² apart.

    Parameters
    ----------
    private_key : PrivateKey
        The key.
    ciphertexts : Ciphertexts
        Shape (count, ciphertext_bytes), **after `validate_ciphertexts`**.
    threads : int, optional
        Into how many pieces the work is cut; they run side by side since GMP's powers hold no GIL.
        By default the number of processors.
    executor : concurrent.futures.Executor, optional
        Threads to use; by default the process keeps some.  Never processes: the key stays.

    Returns
    -------
    list of int
        Plaintexts in [0, n).

    Raises
    ------
    InvalidMessageError
        If a ciphertext has a foreign shape or is not invertible modulo n².
    """
    values = _to_integers(private_key.public_key, ciphertexts)
    threads = max(1, threads or os.cpu_count() or 1)
    stripes = max(1, min((threads + 1) // 2, len(values)))  # each is one job modulo p² and one modulo q²
    jobs = [partial(part.residues, values[i::stripes]) for part in private_key.parts for i in range(stripes)]
    residues = _run(jobs, min(threads, len(jobs)), executor)
    plaintexts = [0] * len(values)
    for i in range(stripes):
        plaintexts[i::stripes] = _join(private_key.phe, residues[i], residues[i + stripes])
    return plaintexts


def _run(jobs: Sequence[Callable[[], list[mpz]]], threads: int, executor: Executor | None) -> list[list[mpz]]:
    """Run jobs side by side, one of them here, results in their order; without threads if one is enough."""
    if threads == 1 and executor is None:
        return [job() for job in jobs]
    helpers = executor or _shared_threads(os.getpid())
    others = [helpers.submit(job) for job in jobs[1:]]
    return [jobs[0](), *(future.result() for future in others)]


@lru_cache(maxsize=1)
def _shared_threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process that decryptions share: starting some takes as long as a decryption."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix=f"tacit-decrypt-{process}")


def _join(private_key: PaillierPrivateKey, modulo_p: Iterable[mpz], modulo_q: Iterable[mpz]) -> list[int]:
    """Join residues by the Chinese remainder theorem: a + p · ((b − a) · p^-1 mod q)."""
    p, q, p_inverse = mpz(private_key.p), mpz(private_key.q), mpz(private_key.p_inverse)
    return [int(a + (b - a) * p_inverse % q * p) for a, b in zip(modulo_p, modulo_q, strict=True)]
