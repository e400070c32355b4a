"""The keys of the Paillier cryptosystem: a modulus for everybody, and its two prime factors for its owner.

The modulus n = p·q is a Blum integer, as the noise needs: p and q are uniform primes of equal length with
p ≡ q ≡ 3 (mod 4) and gcd(p − 1, q − 1) = 2.  Decryption works modulo each factor apart:

    m mod p = L_p(c^(p−1) mod p²) · h_p mod p,  L_p(x) = (x − 1)/p,  likewise q, then CRT

Who learns what.  The public key is sent, stored and shown freely; under the decisional composite residuosity
assumption it helps nobody to read a ciphertext.  The factors read every ciphertext: they are *never sent*, and
neither pickling nor a representation shows them.  Against a party that announces a bad modulus,
`PublicKey.validated` refuses what a modulus alone gives away; that n has exactly two prime factors, and that
they are ≡ 3 (mod 4), rests on its owner's word.

Honest limits.  GMP's arithmetic is not constant time: an observer of precise timings on the same machine
is outside the model.  Python cannot erase a key from memory.

References
----------
P. Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999
(section 7 for decryption by CRT).  I. Damgård, M. Jurik, J. B. Nielsen, "A generalization of Paillier's
public-key system with applications to electronic voting", Int. J. Inf. Secur. 9, 2010 (the modulus).
phe (python-paillier) holds the keys.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import gmpy2
from gmpy2 import mpz
from phe import PaillierPrivateKey, PaillierPublicKey

from .errors import InvalidMessageError, SetupError
from .secret import RandomBytes, Secret

MINIMUM_KEY_BITS = 64  # below, the search for primes may not end; what is *secure* is the setup's affair
MAXIMUM_KEY_BITS = 16384  # above, merely checking a stranger's modulus takes many seconds
_KEY_ID_DOMAIN = b"tacit Paillier public key, version 1\x00"
_PRIMORIAL = gmpy2.primorial(2**16)  # the product of all primes below 2^16
_SIEVE = gmpy2.primorial(2000)


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
