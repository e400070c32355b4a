"""Samples are of the discrete Gaussian, exactly: by both samplers, at every width, and where floats cannot tell."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tacit.privacy import discrete_gaussian as module
from tacit.privacy.discrete_gaussian import discrete_gaussian, discrete_gaussian_by_rejection
from tacit.privacy.errors import PrivacyError

RandomBytes = Callable[[int], bytes]

WIDTHS = [Fraction(1, 2), Fraction(2), Fraction(250), Fraction(10**6)]
ALMOST_SURE = 1e-4  # seeds are fixed, so a test that passes passes always


def seeded(seed: str) -> RandomBytes:
    """Return a source of bytes that repeats itself from run to run."""
    state = hashlib.shake_256(seed.encode()).digest(32)

    def random_bytes(n: int) -> bytes:
        nonlocal state
        stream = hashlib.shake_256(state).digest(32 + n)
        state = stream[:32]
        return stream[32:]

    return random_bytes


def scripted(*words: int) -> RandomBytes:
    """Return the bytes of these words of 64 bits, then zeros."""
    stream = iter(b"".join(word.to_bytes(8, "little") for word in words))
    return lambda n: bytes(next(stream, 0) for _ in range(n))


def rejected(variance: Fraction, count: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
    return np.array([discrete_gaussian_by_rejection(variance, random_bytes) for _ in range(count)])


def chi_square(draws: NDArray[np.int64], sigma: float) -> float:
    """The p-value of the draws under N_Z(0, sigma²), in cells of at least a dozen expected draws."""
    cells = np.unique(np.rint(sigma * np.linspace(-3.2, 3.2, 61)).astype(np.int64))
    reach = math.ceil(40 + 12 * sigma)
    if sigma < 1000:
        support = np.arange(-reach, reach + 1)
        weights = np.exp(-0.5 * (support / sigma) ** 2)
        below = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])
        cumulative = below[cells + reach]  # P(x < cell)
    else:  # by Euler and Maclaurin, the continuous one half a step lower, far within the precision of the test
        cumulative = stats.norm.cdf((cells - 0.5) / sigma)
    expected = len(draws) * np.diff(np.concatenate([[0.0], cumulative, [1.0]]))
    observed = np.bincount(np.searchsorted(cells, draws, side="right"), minlength=len(expected))
    kept = expected > 12
    observed = np.append(observed[kept], observed[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    if expected[-1] < 1:
        observed, expected = observed[:-1], expected[:-1] * observed[:-1].sum() / expected[:-1].sum()
    return float(stats.chisquare(observed, expected).pvalue)


def true_variance(sigma: float) -> float:
    if sigma > 5:
        return sigma**2  # but for a relative 1e-200
    support = np.arange(-60, 61)
    weights = np.exp(-0.5 * (support / sigma) ** 2)
    return float((weights * support**2).sum() / weights.sum())


@pytest.mark.parametrize("sigma", WIDTHS, ids=str)
def test_table_draws_pass_a_chi_square_test(sigma: Fraction) -> None:
    draws = discrete_gaussian(sigma**2, 200_000, seeded(f"table {sigma}"))
    assert chi_square(draws, float(sigma)) > ALMOST_SURE


@pytest.mark.parametrize("sigma", WIDTHS, ids=str)
def test_rejection_draws_pass_a_chi_square_test(sigma: Fraction) -> None:
    draws = rejected(sigma**2, 4000, seeded(f"rejection {sigma}"))
    assert chi_square(draws, float(sigma)) > ALMOST_SURE


@pytest.mark.parametrize("sigma", WIDTHS, ids=str)
def test_variance_and_mean_are_right(sigma: Fraction) -> None:
    count = 400_000
    draws = discrete_gaussian(sigma**2, count, seeded(f"variance {sigma}")).astype(np.float64)
    expected = true_variance(float(sigma))
    assert abs(draws.mean()) < 4 * math.sqrt(expected / count)
    spread = math.sqrt(float(np.mean((draws**2 - expected) ** 2)) / count)  # of the mean square itself
    assert abs(np.mean(draws**2) - expected) < 4 * spread


def test_a_biased_source_of_draws_fails_the_chi_square_test() -> None:
    draws = discrete_gaussian(Fraction(250**2), 200_000, seeded("biased"))
    assert chi_square(draws + 8, 250.0) < 1e-6
    assert chi_square(draws, 256.0) < 1e-6


@pytest.mark.parametrize("sigma", WIDTHS, ids=str)
def test_both_samplers_agree(sigma: Fraction) -> None:
    ours = discrete_gaussian(sigma**2, 50_000, seeded(f"ours {sigma}"))
    theirs = rejected(sigma**2, 3000, seeded(f"theirs {sigma}"))
    if sigma < 10:
        values = np.union1d(ours, theirs)
        counts = np.array(
            [[np.count_nonzero(draws == value) for value in values] for draws in (ours, theirs)]
        )
        counts = counts[:, counts.min(axis=0) > 5]
        assert stats.chi2_contingency(counts).pvalue > ALMOST_SURE
    else:
        assert stats.ks_2samp(ours, theirs).pvalue > ALMOST_SURE


@pytest.mark.parametrize("sigma", [513, 10**6, 2**40], ids=str)
def test_low_bits_of_wide_noise_are_uniform(sigma: int) -> None:
    draws = discrete_gaussian(Fraction(sigma**2), 64_000, seeded(f"low bits {sigma}"))
    counts = np.bincount(draws % 64, minlength=64)
    assert stats.chisquare(counts).pvalue > ALMOST_SURE


def test_tails_are_there() -> None:
    draws = discrete_gaussian(Fraction(100), 1_000_000, seeded("tails"))
    beyond = np.count_nonzero(np.abs(draws) > 40)
    expected = 1_000_000 * 2 * stats.norm.sf(4.05)
    assert abs(beyond - expected) < 4 * math.sqrt(expected)


def test_very_narrow_noise_is_zero() -> None:
    assert not discrete_gaussian(Fraction(1, 10_000), 1000, seeded("narrow")).any()


@pytest.mark.parametrize("count", [0, 1, module.FEW - 1, module.FEW, module.CHUNK, module.CHUNK + 1])
def test_any_number_of_draws(count: int) -> None:
    draws = discrete_gaussian(Fraction(7, 3), count, seeded("count"))
    assert draws.shape == (count,)
    assert draws.dtype == np.int64


def test_the_system_of_bytes_decides_the_draws() -> None:
    first, second = (discrete_gaussian(Fraction(9), 100, seeded("same")) for _ in range(2))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-1), Fraction(2**96 + 1)])
def test_a_variance_that_cannot_be_drawn_is_refused(variance: Fraction) -> None:
    with pytest.raises(PrivacyError, match="grid units"):
        discrete_gaussian(variance, 1, seeded("refused"))


@pytest.mark.parametrize("bound", [2, 3, 5, 8, 200, 256])
def test_integers_are_uniform_over_all_bytes(bound: int) -> None:
    drawn: list[int] = []
    for byte in range(256):
        source = iter([bytes([byte])])
        with contextlib.suppress(StopIteration):  # refused
            drawn.append(module._uniform(bound, lambda _, source=source: next(source)))  # type: ignore[misc]
    assert set(np.bincount(drawn, minlength=bound).tolist()) == {256 >> (bound - 1).bit_length()}


# Where a comparison of floats or of 64 bits does not decide


@pytest.mark.parametrize(
    "exponent", [Fraction(0), Fraction(1, 10**9), Fraction(1, 3), Fraction(1), Fraction(700, 3)]
)
@pytest.mark.parametrize("bits", [64, 191])
def test_an_exponential_lies_within_its_bounds(exponent: Fraction, bits: int) -> None:
    lower = module._exponential(exponent, bits)
    finer = module._exponential(exponent, bits + 300)
    assert lower << 300 <= finer + 2
    assert finer < lower + 2 << 300
    assert lower / 2**bits == pytest.approx(math.exp(-exponent), rel=1e-12, abs=2.0 ** (2 - bits))


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(400, 3), Fraction(250**2)], ids=str)
def test_thresholds_lie_within_their_bounds(variance: Fraction) -> None:
    coarse, fine = module._thresholds(variance, 63), module._thresholds(variance, 63 + 64)
    assert len(fine) > len(coarse)
    assert coarse[-1] >= 2**63 - 2
    for lower, finer in zip(coarse, fine, strict=False):
        assert lower << 64 <= finer + 2
        assert finer < lower + 2 << 64


@pytest.mark.parametrize("index", [1, 5, 17])
@pytest.mark.parametrize("above", [False, True])
def test_further_bits_decide_at_a_threshold_of_the_table(index: int, *, above: bool) -> None:
    variance = Fraction(100)
    threshold = module._thresholds(variance, 63 + 64 + 64)[index - 1] >> 64  # to 127 bits
    first, second = threshold >> 64, (threshold + (2 if above else -2)) & 2**64 - 1
    assert (second >> 4) not in {0, 2**60 - 1}, "the example does not carry into the first word"
    # Word by word: the lane, whose lowest bit is the sign; its next bits.
    draws = module._table(variance).draw(1, scripted(first << 1, second))
    assert draws.tolist() == [index if above else index - 1]


def test_the_last_index_of_the_table_is_no_end() -> None:
    variance = Fraction(100)
    table = module._thresholds(variance, 63)
    draws = module._table(variance).draw(1, scripted(2**64 - 2, 2**64 - 1, 2**64 - 1))
    assert draws.item() > len(table)


@pytest.mark.parametrize("above", [False, True])
def test_further_bits_decide_an_acceptance(*, above: bool) -> None:
    variance = Fraction(2**40)  # blocks of 2^11
    index, offset = 700, 2**11 - 1
    lane = (module._thresholds(variance / 2**22, 63)[index - 1] + 100) << 1
    exponent = offset * (2 * index * 2**11 + offset) / (2 * variance)
    chance = module._exponential(exponent, 128) + (3 if above else -3)
    draws = module._table(variance).draw(1, scripted(lane, offset, chance >> 64, chance & 2**64 - 1))
    assert draws.tolist() == ([] if above else [index * 2**11 + offset])


def test_an_undecided_uniform_number_takes_more_bits_until_it_is_decided() -> None:
    third = 2**64 // 3  # of 1/3, all words are the same
    bounds = lambda bits: (2**bits // 3, 2**bits // 3 + 2)  # noqa: E731
    assert module._is_below(third, bounds, scripted(third, third, third - 1))
    assert not module._is_below(third, bounds, scripted(third, third, third + 3))


def test_zero_has_no_second_sign() -> None:
    table = module._table(Fraction(100))
    assert table.draw(1, scripted(2 << 1)).tolist() == [0]
    assert table.draw(1, scripted(2 << 1 | 1)).tolist() == []
