"""The Paillier cryptosystem: whoever holds ciphertexts can add, only the key owner can read.

Modulus n = p·q, ciphertexts in Z*_{n²}, generator 1 + n:

    E(m; r) = (1 + n)^m · r^n = (1 + m·n) · r^n   (mod n²)      0 ≤ m < n, r in Z*_n
    E(a) · E(b) = E(a + b mod n)                                the sum of plaintexts
    E(a) · E(b)^-1 = E(a − b mod n)
    m mod p = L_p(c^(p−1) mod p²) · h_p mod p,  L_p(x) = (x − 1)/p,  likewise q, then CRT

`r^n` is the *noise*: without it a ciphertext is its plaintext, read off by a division.  Here it is a
parameter without a default (`paillier_noise`), each entry multiplies one ciphertext and is gone, and a
ciphertext is nothing but fixed-width big-endian bytes: no exponent that follows the magnitude, no
re-randomisation deferred until somebody asks.

Who learns what.  Under the decisional composite residuosity assumption a curious party without the
key learns nothing about plaintexts.  **The key owner reads every ciphertext that it sees**, so frames
between holders are sealed from it.  Nothing here is verified: a ciphertext proves neither its plaintext's
range nor that its sender knows it, and anybody can shift a sum.

Honest limits.  GMP's arithmetic is not constant time: an observer of precise timings on the same machine
is outside the model.  Python cannot erase a key from memory.  `PublicKey.validated` refuses what a
modulus alone gives away; that n has exactly two prime factors, and that they are ≡ 3 (mod 4), rests on
its owner's word.

References
----------
P. Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999
(scheme 1; section 7 for decryption by CRT).  I. Damgård, M. Jurik, J. B. Nielsen, "A generalization of
Paillier's public-key system with applications to electronic voting", Int. J. Inf. Secur. 9, 2010 (the
modulus and the noise).  phe (python-paillier) holds the keys and is the oracle of the tests.
"""

from __future__ import annotations

import hashlib
import math
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self, SupportsIndex, TypeAlias

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray
from phe import PaillierPrivateKey, PaillierPublicKey

from .errors import InvalidMessageError, MisuseError, RangeError, SetupError
from .secret import Secret

if TYPE_CHECKING:
    from .paillier_noise import NoisePool

RandomBytes: TypeAlias = Callable[[int], bytes]
Ciphertexts: TypeAlias = NDArray[np.uint8]  # (count, ciphertext_bytes), big-endian

MINIMUM_KEY_BITS = 64  # below, the search for primes may not end; what is *secure* is the setup's affair
MAXIMUM_KEY_BITS = 16384  # above, merely checking a stranger's modulus takes many seconds
_KEY_ID_DOMAIN = b"tacit Paillier public key, version 1\x00"
_PRIMORIAL = gmpy2.primorial(2**16)  # the product of all primes below 2^16
_SIEVE = gmpy2.primorial(2000)


# Keys


@dataclass(frozen=True, repr=False)
class PublicKey:
    """A modulus under which anybody encrypts; safe to send and to pickle.

    **Build a stranger's key by `validated`**; the plain constructor checks next to nothing.

    Attributes
    ----------
    n : int
        The modulus.
    """

    n: int

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 2:
            raise SetupError("a Paillier modulus is an int above 1")

    @classmethod
    def validated(cls, n: int, minimum_bits: int) -> Self:
        """Check what a modulus gives away by itself, for a key that came from another party.

        Parameters
        ----------
        n : int
            The modulus received.
        minimum_bits : int
            The shortest modulus accepted.

        Raises
        ------
        SetupError
            If n is too short or absurdly long, even, has a prime factor below 2^16, is a perfect power
            or is prime: in each case somebody else could decrypt, or decryption would be wrong.
        """
        key = cls(n)
        if key.bits < minimum_bits:
            raise SetupError(
                f"the Paillier modulus has {key.bits} bits: at least {minimum_bits} are required"
            )
        if key.bits > MAXIMUM_KEY_BITS:
            raise SetupError(
                f"the Paillier modulus has {key.bits} bits: at most {MAXIMUM_KEY_BITS} are accepted"
            )
        problem = _weakness(key.modulus)
        if problem:
            raise SetupError(f"the Paillier modulus is {problem}: its owner must generate a proper key")
        return key

    @property
    def bits(self) -> int:
        """The length of n in bits."""
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """The width of every ciphertext: that of n², whatever the plaintext."""
        return (2 * self.bits + 7) // 8

    @cached_property
    def key_id(self) -> bytes:
        """SHA-256 of n under a domain of its own: what messages carry to name the key."""
        return hashlib.sha256(_KEY_ID_DOMAIN + self.n.to_bytes((self.bits + 7) // 8, "big")).digest()

    @cached_property
    def modulus(self) -> mpz:
        """The modulus n as GMP's integer."""
        return mpz(self.n)

    @cached_property
    def modulus_squared(self) -> mpz:
        """The modulus n² of the ciphertexts as GMP's integer."""
        return self.modulus * self.modulus

    @cached_property
    def phe(self) -> PaillierPublicKey:
        """The same key as an object of phe."""
        return PaillierPublicKey(self.n)

    def __repr__(self) -> str:
        return f"PublicKey(bits={self.bits}, key_id={self.key_id.hex()[:16]})"

    def __reduce__(self) -> tuple[type[PublicKey], tuple[int]]:
        return type(self), (self.n,)


def _weakness(n: mpz) -> str:
    """Name the first way in which a modulus is visibly unfit; empty if there is none."""
    if n % 2 == 0:
        return "even"
    if gmpy2.gcd(n, _PRIMORIAL % n) != 1:
        return "divisible by a small prime"
    if gmpy2.is_power(n):
        return "a perfect power"
    return "prime" if gmpy2.is_prime(n) else ""


class _PrimePart(Secret):
    """Decryption modulo one prime factor of n; *never sent*."""

    __slots__ = ("_factor", "_prime", "_prime_squared")

    def __init__(self, prime: int, factor: int) -> None:
        self._prime = mpz(prime)
        self._prime_squared = self._prime * self._prime
        self._factor = mpz(factor)

    def residues(self, ciphertexts: Iterable[mpz]) -> list[mpz]:
        """Decrypt modulo the prime; the powers, all of the cost, are computed without the GIL."""
        prime, prime_squared, factor = self._prime, self._prime_squared, self._factor
        reduced = [ciphertext % prime_squared for ciphertext in ciphertexts]
        plaintexts = []
        # This always lets go of the GIL; gmpy2.powmod does so only if the *thread's own* context says so.
        for power in gmpy2.powmod_base_list(reduced, prime - 1, prime_squared):
            quotient, remainder = gmpy2.f_divmod(power - 1, prime)
            if remainder:  # Fermat: the remainder is 0 for everything prime to n
                raise InvalidMessageError("a ciphertext is no invertible element modulo n²")
            plaintexts.append(quotient * factor % prime)
        return plaintexts


class PrivateKey(Secret):
    """The two prime factors of a modulus.

    *Never sent.*  Shown without its secrets; pickling and copying raise `MisuseError`.

    Parameters
    ----------
    p, q : int
        Different primes, neither of which divides the other minus one.

    Attributes
    ----------
    public_key : PublicKey
        What others encrypt under.
    phe : phe.PaillierPrivateKey
        The same key as an object of phe; **never pickle that one either**.

    Raises
    ------
    SetupError
        If p and q make no Paillier key.
    """

    __slots__ = ("parts", "phe", "public_key")

    def __init__(self, p: int, q: int) -> None:
        if p == q or math.gcd(p * q, (p - 1) * (q - 1)) != 1:
            raise SetupError(
                "the two factors make no Paillier key: they must be different primes of like length"
            )
        self.public_key = PublicKey(p * q)
        self.phe = PaillierPrivateKey(self.public_key.phe, p, q)
        self.parts = (_PrimePart(self.phe.p, self.phe.hp), _PrimePart(self.phe.q, self.phe.hq))

    def __repr__(self) -> str:
        return f"PrivateKey(for {self.public_key!r}, redacted)"


def generate_keys(bits: int, random_bytes: RandomBytes) -> PrivateKey:
    """Generate a key whose modulus is a Blum integer, as the noise of Damgård, Jurik and Nielsen needs.

    p and q are uniform primes of equal length, their two leading bits set, with p ≡ q ≡ 3 (mod 4) and
    gcd(p − 1, q − 1) = 2.  The same `random_bytes` give the same key.

    Parameters
    ----------
    bits : int
        Exact length of the modulus: even, 64 or more.  **Below 2048 only in tests.**
    random_bytes : callable
        Source of cryptographic randomness.

    Raises
    ------
    SetupError
        If `bits` is odd or outside 64 … 16384.
    """
    if bits % 2 or not MINIMUM_KEY_BITS <= bits <= MAXIMUM_KEY_BITS:
        raise SetupError(
            f"a key of {bits} bits: choose an even length of {MINIMUM_KEY_BITS} to {MAXIMUM_KEY_BITS}"
        )
    p = _random_blum_prime(bits // 2, random_bytes)
    q = p
    while gmpy2.gcd(p - 1, q - 1) != 2:
        q = _random_blum_prime(bits // 2, random_bytes)
    return PrivateKey(int(p), int(q))


def _random_blum_prime(bits: int, random_bytes: RandomBytes) -> mpz:
    """Draw a uniform prime ≡ 3 (mod 4) of exactly `bits` bits whose two leading bits are set.

    Every candidate is fresh: searching upwards from one start would favour primes after long gaps.
    """
    fixed = mpz(3) << (bits - 2) | 3
    mask = (mpz(1) << bits) - 1
    while True:
        candidate = mpz.from_bytes(random_bytes((bits + 7) // 8), "big") & mask | fixed
        if gmpy2.gcd(candidate, _SIEVE) != 1:
            continue
        # Fermat's test first, since powmod_base_list computes without the GIL and is_prime does not.
        if gmpy2.powmod_base_list([mpz(2)], candidate - 1, candidate)[0] == 1 and gmpy2.is_prime(candidate):
            return candidate


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


def _to_integers(public_key: PublicKey, ciphertexts: Ciphertexts) -> list[mpz]:
    """Read ciphertexts; their shape and dtype are checked, their values are not."""
    width = public_key.ciphertext_bytes
    if not isinstance(ciphertexts, np.ndarray) or ciphertexts.dtype != np.uint8:
        raise InvalidMessageError("ciphertexts must be an array of bytes (uint8)")
    if ciphertexts.ndim != 2 or ciphertexts.shape[1] != width:
        raise InvalidMessageError(
            f"ciphertexts of shape {ciphertexts.shape} where (count, {width}) fits the key: another key's?"
        )
    data = ciphertexts.tobytes()
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


def _same_count(first: Sequence[object], second: Sequence[object]) -> None:
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
    a, b = _to_integers(public_key, first), _to_integers(public_key, second)
    _same_count(a, b)
    modulus_squared = public_key.modulus_squared
    return _to_ciphertexts(public_key, [x * y % modulus_squared for x, y in zip(a, b, strict=True)])


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
        Threads to use again; by default they are made for this call.  Never processes: the key stays.

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
    """Run jobs side by side, results in their order; without threads if one is enough."""
    if executor is not None:
        return [future.result() for future in [executor.submit(job) for job in jobs]]
    if threads == 1:
        return [job() for job in jobs]
    with ThreadPoolExecutor(threads) as own:
        return _run(jobs, threads, own)


def _join(private_key: PaillierPrivateKey, modulo_p: Iterable[mpz], modulo_q: Iterable[mpz]) -> list[int]:
    """Join residues by the Chinese remainder theorem: a + p · ((b − a) · p^-1 mod q)."""
    p, q, p_inverse = mpz(private_key.p), mpz(private_key.q), mpz(private_key.p_inverse)
    return [int(a + (b - a) * p_inverse % q * p) for a, b in zip(modulo_p, modulo_q, strict=True)]
