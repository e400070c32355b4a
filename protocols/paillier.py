"""The Paillier cryptosystem: whoever holds ciphertexts can add, only the key owner can read.

Modulus n = p·q, ciphertexts in Z*_{n²}, generator 1 + n:

    E(m; r) = (1 + n)^m · r^n = (1 + m·n) · r^n   (mod n²)      0 ≤ m < n, r in Z*_n
    E(a) · E(b) = E(a + b mod n)                                the sum of plaintexts
    E(a) · E(b)^-1 = E(a − b mod n)
    D(c)                                                        by the factors of n (`paillier_keys`), then CRT

`r^n` is the *noise*: without it a ciphertext is its plaintext, read off by a division.  Here it is a
parameter without a default (`paillier_noise`), each entry multiplies one ciphertext and is gone, and what
travels of a ciphertext is nothing but fixed-width big-endian bytes: no exponent that follows the magnitude, no
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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, SupportsIndex

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


class Ciphertexts:
    """Ciphertexts under one key, valid, between the frame they came in and the frame they leave in.

    Made by `read` from what arrived, or by the steps below.

    Attributes
    ----------
    public_key : PublicKey
        Whose owner can read them.
    values : list of mpz
        Elements of Z*_{n²}.
    """

    __slots__ = ("public_key", "values")

    def __init__(self, public_key: PublicKey, values: list[mpz]) -> None:
        self.public_key = public_key
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<{len(self)} Paillier ciphertexts>"

    @classmethod
    def read(
        cls, public_key: PublicKey, received: NDArray[np.uint8], *, sender: str, key_id: bytes | None = None
    ) -> Ciphertexts:
        """Read ciphertexts, and check that they are some, before anything is computed with them.

        Parameters
        ----------
        public_key : PublicKey
            The key that the session agreed upon.
        received : ndarray of uint8
            Shape (count, ciphertext_bytes), big-endian: what arrived.
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
            _check_shape(public_key, received)
            width, data, read = public_key.ciphertext_bytes, received.tobytes(), mpz.from_bytes
            values = [read(data[i : i + width], "big") for i in range(0, len(data), width)]
            modulus_squared = public_key.modulus_squared
            if not all(0 < value < modulus_squared for value in values):
                raise InvalidMessageError("a ciphertext lies outside 1 … n² − 1")
            if not _all_units(values, public_key.modulus):
                raise InvalidMessageError("a ciphertext shares a factor with the modulus")
        except InvalidMessageError as error:
            raise InvalidMessageError(error.problem, culprits=[sender]) from None
        return cls(public_key, values)

    def write(self) -> NDArray[np.uint8]:
        """Return them as they travel: read-only, shape (count, ciphertext_bytes), big-endian."""
        width = self.public_key.ciphertext_bytes
        data = b"".join([value.to_bytes(width, "big") for value in self.values])
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, width)


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


def _check_shape(public_key: PublicKey, received: NDArray[np.uint8]) -> None:
    """Refuse what is no matrix of bytes of the key's width."""
    width = public_key.ciphertext_bytes
    if not isinstance(received, np.ndarray) or received.dtype != np.uint8:
        raise InvalidMessageError("ciphertexts must be an array of bytes (uint8)")
    if received.ndim != 2 or received.shape[1] != width:
        raise InvalidMessageError(
            f"ciphertexts of shape {received.shape} where (count, {width}) fits the key: another key's?"
        )


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


def _check_match(first: Ciphertexts, second: Ciphertexts) -> None:
    """Refuse vectors under different keys, or of different lengths, which zip would cut to the shorter."""
    if first.public_key != second.public_key:
        raise MisuseError("ciphertexts under different keys cannot be combined")
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
        One for each plaintext.

    Raises
    ------
    RangeError
        If a plaintext is no integer or outside [0, n); no noise is used then.
    MisuseError
        If the noise is for another key.
    """
    checked = _to_plaintexts(public_key, plaintexts)
    if noise.public_key != public_key:
        raise MisuseError("the noise pool belongs to another key")
    modulus = public_key.modulus
    encrypted = []
    for plaintext, entry in zip(checked, noise.take(len(checked)), strict=True):
        # With noise = low + high·n, (1 + m·n) · noise = low + (high + low·m)·n (mod n²): half the digits.
        high, low = gmpy2.f_divmod(entry, modulus)
        encrypted.append(low + (high + low * plaintext) % modulus * modulus)
    return Ciphertexts(public_key, encrypted)


def add(first: Ciphertexts, second: Ciphertexts) -> Ciphertexts:
    """Encrypt the sums of two vectors of plaintexts, modulo n.

    A holder of the ring adds a *fresh* encryption to what came in: whoever sees both partial sums can not
    tell what was added, nor even whether anything was.  **Otherwise never send the result to anybody who may
    have seen the operands.**

    Raises
    ------
    MisuseError
        If the vectors differ in key or length.
    """
    _check_match(first, second)
    modulus_squared = first.public_key.modulus_squared
    values = [a * b % modulus_squared for a, b in zip(first.values, second.values, strict=True)]
    return Ciphertexts(first.public_key, values)


def subtract(first: Ciphertexts, second: Ciphertexts) -> Ciphertexts:
    """Encrypt the differences first − second of two vectors of plaintexts, modulo n; see `add`."""
    return add(first, invert(second))


def invert(ciphertexts: Ciphertexts) -> Ciphertexts:
    """Encrypt the negatives of plaintexts, modulo n; **not re-randomised**.

    One inversion for all of them, then three products each.

    Raises
    ------
    InvalidMessageError
        If an entry is not invertible modulo n².

    References
    ----------
    P. L. Montgomery, "Speeding the Pollard and elliptic curve methods of factorization", 1987, §10.3.1.
    """
    modulus_squared = ciphertexts.public_key.modulus_squared
    products = [mpz(1)]  # products[i] = values[0] ⋯ values[i − 1]
    for value in ciphertexts.values:
        products.append(products[-1] * value % modulus_squared)
    try:
        inverse = gmpy2.invert(products[-1], modulus_squared)
    except ZeroDivisionError:
        raise InvalidMessageError("a ciphertext is no invertible element modulo n²") from None
    inverses = []
    for value, product in zip(reversed(ciphertexts.values), products[-2::-1], strict=True):
        inverses.append(inverse * product % modulus_squared)
        inverse = inverse * value % modulus_squared
    return Ciphertexts(ciphertexts.public_key, inverses[::-1])


def random_ciphertexts(public_key: PublicKey, count: int, random_bytes: RandomBytes) -> Ciphertexts:
    """Draw uniform elements of Z*_{n²}: encryptions of uniform plaintexts that nobody has chosen.

    Every element of the group is (1 + n)^m r^n for exactly one pair (m, r), so no encryption is needed.
    """
    return Ciphertexts(public_key, random_units(public_key.modulus_squared, count, random_bytes))


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
        Under that key.
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
    MisuseError
        If they are under another key: it would give numbers, none of them right.
    InvalidMessageError
        If a ciphertext is not invertible modulo n².
    """
    if ciphertexts.public_key != private_key.public_key:
        raise MisuseError("ciphertexts under another key cannot be decrypted")
    values = ciphertexts.values
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
