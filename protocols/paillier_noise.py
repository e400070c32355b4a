"""The noise of Paillier ciphertexts: random n-th powers modulo n², drawn ahead, used once.

All the cost of an encryption is its noise, so there are two ways to draw it and a pool to keep it in:

- `StrictNoise`, Paillier's own: r^n mod n² for uniform r.  Right under any modulus, and slow.
- `FixedBaseNoise`, by Damgård, Jurik and Nielsen (DJN): the *encrypting* party draws x once and keeps
  h = −x² mod n and the base b = h^n mod n²; noise is b^a for a random a of half the modulus' length.
  A table of powers of b replaces squarings by products.

Who learns what.  If n is a Blum integer, p ≡ q ≡ 3 (mod 4), gcd(p − 1, q − 1) = 2, then −x² generates, up
to a negligible chance, all squares and their negatives: a cyclic group, in which b^a is
indistinguishable from a random n-th power for everybody who cannot factor n.  So DJN noise hides holders from
one another.  **It does not hide them from the key owner**, who decrypts anyway, and that the modulus is
Blum rests on the key owner's word: under another modulus the group may be small.  Use `StrictNoise` there.

An entry used twice betrays the difference of two plaintexts (the quotient of the two ciphertexts has no noise
left).  So a pool gives each entry out once, forgets its entries in a forked child, and can not be
pickled.  A table, too, stays where it was made: with it, small exponents could be recognised.

The products.  Every element modulo n² is t = u · (1 + n·v) with u, v < n.  The factors 1 + n·v multiply
by adding their v, so each table entry costs one product by the half-length u and an addition:

    ∏ t_i = (∏ u_i mod n²) · (1 + n · Σ v_i)   (mod n²)

References
----------
I. Damgård, M. Jurik, J. B. Nielsen, Int. J. Inf. Secur. 9, 2010, §4.2.  P. Paillier, EUROCRYPT 1999.
E. F. Brickell, D. M. Gordon, K. S. McCurley, D. B. Wilson, "Fast exponentiation with precomputation", 1992.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from weakref import WeakSet

import gmpy2
import numpy as np
from gmpy2 import mpz

from .errors import SetupError
from .paillier import random_units
from .paillier_keys import PublicKey
from .secret import RandomBytes, Secret

MAXIMUM_WINDOW_BITS = 10  # the table grows as 2^w / w: 54 MB for 10 bits at 2048
_AUTOMATIC_WINDOW_BITS = 8  # 18 MB at 2048, 39 MB at 3072; beyond, memory doubles for a tenth of the time
_DRAWN_AT_ONCE = 16  # so that a thread that fills a pool delivers early, and often

# In units of one product by a table entry (measured, much the same from 2048 to 4096 bits):
_COST_OF_SQUARING = 1.9
_COST_OF_TABLE_ENTRY = 1.9


class Noise(ABC):
    """A way to draw noise for one key."""

    __slots__ = ()

    public_key: PublicKey

    @abstractmethod
    def draw(self, count: int, random_bytes: RandomBytes) -> list[mpz]:
        """Draw `count` independent n-th powers modulo n², in [1, n²)."""


class StrictNoise(Noise):
    """Textbook noise r^n mod n²: under any modulus, also of keys made elsewhere.

    Parameters
    ----------
    public_key : PublicKey
        The key.
    threads : int
        Threads to draw with; the powers are computed without the GIL.
    """

    __slots__ = ("_threads", "public_key")

    def __init__(self, public_key: PublicKey, threads: int = 1) -> None:
        self.public_key = public_key
        self._threads = threads

    def draw(self, count: int, random_bytes: RandomBytes) -> list[mpz]:
        """Draw r^n mod n² for uniform r in Z*_n."""
        key = self.public_key
        roots = random_units(key.modulus, count, random_bytes)
        if self._threads == 1:
            return _powers_of(roots, key)
        pieces = [roots[i :: self._threads] for i in range(self._threads)]
        with ThreadPoolExecutor(self._threads) as executor:
            return [entry for piece in executor.map(partial(_powers_of, key=key), pieces) for entry in piece]


def _powers_of(roots: list[mpz], key: PublicKey) -> list[mpz]:
    """Raise to the n-th power modulo n², without the GIL."""
    return list(gmpy2.powmod_base_list(roots, key.modulus, key.modulus_squared))


def best_window(n_encryptions: int, bits: int) -> int:
    """Choose the window that minimises the estimated cost of building a table and using it.

    Parameters
    ----------
    n_encryptions : int
        How many entries of noise will be drawn from the table in its life.
    bits : int
        Length of the modulus.

    Returns
    -------
    int
        Bits a window, at most 8 to bound the memory; 0 means that no table pays.
    """

    def cost(window_bits: int) -> float:
        exponent_bits = _exponent_bits(bits)
        if not window_bits:
            return n_encryptions * exponent_bits * _COST_OF_SQUARING
        windows = -(-exponent_bits // window_bits)
        return windows * (2.0**window_bits * _COST_OF_TABLE_ENTRY + n_encryptions * (1 - 2.0**-window_bits))

    return min(range(_AUTOMATIC_WINDOW_BITS + 1), key=cost)


def _exponent_bits(bits: int) -> int:
    """Length of a DJN exponent: half of the modulus, rounded up."""
    return (bits + 1) // 2


class FixedBaseNoise(Noise, Secret):
    """DJN noise b^a from a table of powers of one base.

    *Never sent*, and shown without its contents.

    Parameters
    ----------
    public_key : PublicKey
        A key whose owner says that its modulus is Blum.
    random_bytes : callable
        Draws x, once.
    window_bits : int
        Bits a table look-up serves (`best_window`); 0 builds no table.

    Raises
    ------
    SetupError
        If the modulus is no Blum integer for sure (not ≡ 1 mod 4), or the window is out of range.
    """

    __slots__ = ("_base", "_bits", "_tables", "_window_bits", "public_key")

    def __init__(self, public_key: PublicKey, random_bytes: RandomBytes, window_bits: int) -> None:
        if public_key.n % 4 != 1:  # a product of two primes ≡ 3 (mod 4) is ≡ 1
            raise SetupError("the modulus is no Blum integer: use strict noise, or a key generated by tacit")
        if not 0 <= window_bits <= MAXIMUM_WINDOW_BITS:
            raise SetupError(f"a window of {window_bits} bits: choose 0 to {MAXIMUM_WINDOW_BITS}")
        self.public_key = public_key
        self._window_bits = window_bits
        self._bits = _exponent_bits(public_key.bits)
        (x,) = random_units(public_key.modulus, 1, random_bytes)
        h = -x * x % public_key.modulus
        (self._base,) = gmpy2.powmod_base_list([h], public_key.modulus, public_key.modulus_squared)
        self._tables = _powers(public_key.modulus, self._base, self._bits, window_bits) if window_bits else []

    def __repr__(self) -> str:
        return f"FixedBaseNoise(for {self.public_key!r}, window_bits={self._window_bits}, redacted)"

    def draw(self, count: int, random_bytes: RandomBytes) -> list[mpz]:
        """Draw b^a mod n² for uniform a of half the modulus' length."""
        if not self._tables:
            return self._draw_without_table(count, random_bytes)
        modulus, modulus_squared = self.public_key.modulus, self.public_key.modulus_squared
        tables, one, zero = self._tables, mpz(1), mpz(0)
        entries = []
        for digits in self._random_digits(count, random_bytes):
            product, total = one, zero
            for (units, logarithms), digit in zip(tables, digits, strict=True):
                product = product * units[digit] % modulus_squared
                total += logarithms[digit]
            # (low + high·n) · (1 + total·n) = low + (high + low·total)·n (mod n²)
            high, low = gmpy2.f_divmod(product, modulus)
            entries.append(low + (high + low * total) % modulus * modulus)
        return entries

    def _draw_without_table(self, count: int, random_bytes: RandomBytes) -> list[mpz]:
        """Draw by plain powers, computed without the GIL."""
        width = (self._bits + 7) // 8
        mask = (mpz(1) << self._bits) - 1
        exponents = [mpz.from_bytes(random_bytes(width), "big") & mask for _ in range(count)]
        return list(gmpy2.powmod_exp_list(self._base, exponents, self.public_key.modulus_squared))

    def _random_digits(self, count: int, random_bytes: RandomBytes) -> Iterable[list[int]]:
        """Draw exponents, each as its digits in base 2^window_bits, one for each table."""
        width, window_bits = (self._bits + 7) // 8, self._window_bits
        drawn = np.frombuffer(random_bytes(count * width), dtype=np.uint8).reshape(count, width)
        bits = np.unpackbits(drawn, axis=1)[:, : self._bits]
        windows = len(self._tables)
        padded = np.zeros((count, windows * window_bits), dtype=np.int64)
        padded[:, : self._bits] = bits
        grouped = padded.reshape(count, windows, window_bits)
        digits: list[list[int]] = (grouped @ (1 << np.arange(window_bits))).tolist()
        return digits


def _powers(modulus: mpz, base: mpz, bits: int, window_bits: int) -> list[tuple[list[mpz], list[mpz]]]:
    """Tabulate base^(digit · 2^(w·i)) = u · (1 + n·v) as (all u, all v), one pair of lists for each window i.

    The step from u to the next is the division of u·u₁ by n: a quotient c adds c/u to v, and the inverse of u
    is carried along as a power of its own.  Three products of half length, no inversion.
    """
    high, unit = gmpy2.f_divmod(base, modulus)
    inverse = gmpy2.invert(unit, modulus)
    logarithm = high * inverse % modulus
    tables = []
    for _ in range(-(-bits // window_bits)):
        u, v, w = mpz(1), mpz(0), mpz(1)
        units, logarithms = [u], [v]
        for _ in range(1 << window_bits):
            quotient, u = gmpy2.f_divmod(u * unit, modulus)
            w = w * inverse % modulus
            v = (v + logarithm + quotient * w) % modulus
            units.append(u)
            logarithms.append(v)
        # The entry after the last digit is the base of the next window.
        unit, logarithm, inverse = units.pop(), logarithms.pop(), w
        tables.append((units, logarithms))
    return tables


class NoisePool(Secret):
    """Noise drawn ahead of time for one key; every entry is given out once.

    *Never sent.*  Safe to share between threads if `random_bytes` is (the system's randomness is).  A
    forked child starts with an empty pool: entries that parent and child both use would be used twice.

    Parameters
    ----------
    noise : Noise
        How to draw.
    random_bytes : callable
        Source of cryptographic randomness.
    """

    __slots__ = ("__weakref__", "_entries", "_lock", "_noise", "_process", "_random_bytes")

    def __init__(self, noise: Noise, random_bytes: RandomBytes) -> None:
        self._noise = noise
        self._random_bytes = random_bytes
        self._forget()
        _POOLS.add(self)

    @property
    def public_key(self) -> PublicKey:
        """The key that the noise is for."""
        return self._noise.public_key

    def __len__(self) -> int:
        self._forget_if_forked()
        return len(self._entries)

    def __repr__(self) -> str:
        return f"NoisePool({len(self)} entries, redacted)"

    def fill(self, count: int) -> None:
        """Draw until the pool holds `count` entries; **call from a background thread**, between passes."""
        while (missing := count - len(self)) > 0:
            drawn = self._noise.draw(min(missing, _DRAWN_AT_ONCE), self._random_bytes)
            with self._lock:
                self._entries.extend(drawn)

    def take(self, count: int) -> list[mpz]:
        """Remove `count` entries and return them, drawing on the spot what is missing."""
        self._forget_if_forked()
        with self._lock:
            ready = [self._entries.popleft() for _ in range(min(count, len(self._entries)))]
        missing = count - len(ready)
        return ready + self._noise.draw(missing, self._random_bytes) if missing else ready

    def _forget(self) -> None:
        """Start empty; with a new lock, since a thread that is gone may hold the old one after a fork."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._entries: deque[mpz] = deque()

    def _forget_if_forked(self) -> None:
        """Catch the forks that Python does not announce."""
        if self._process != os.getpid():
            self._forget()


_POOLS: WeakSet[NoisePool] = WeakSet()


def _forget_all() -> None:
    """Empty every pool; runs in a forked child before anything else."""
    for pool in _POOLS:
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)
