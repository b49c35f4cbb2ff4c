"""Primes against trial division."""

import math

import pytest

from engram_interp.errors import InputError
from engram_interp.memory.primes import is_prime, nth_prime_after, primes_from


def naive(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def test_is_prime_equals_trial_division() -> None:
    for n in [*range(-3, 3000), *range(16_000_000, 16_000_130)]:
        assert is_prime(n) == naive(n), n


@pytest.mark.parametrize(
    ("n", "prime"),
    [
        (561, False),  # Carmichael
        (3_215_031_751, False),  # fools the bases 2, 3, 5 and 7
        (3_825_123_056_546_413_051, False),  # fools every base up to 23
        (2**61 - 1, True),
        (2**31 - 1, True),
        ((2**31 - 1) * (2**29 - 3), False),
    ],
)
def test_numbers_that_fool_weaker_tests(n: int, prime: bool) -> None:
    assert is_prime(n) is prime


def test_nth_prime_after() -> None:
    primes = [n for n in range(2, 400) if naive(n)]
    for start in (0, 1, 2, 10, 97):
        later = [p for p in primes if p > start]
        assert [nth_prime_after(start, k) for k in (1, 2, 7)] == [later[0], later[1], later[6]]
    with pytest.raises(InputError, match="counts primes from 1, got 0"):
        nth_prime_after(5, 0)


def test_primes_from_counts_the_budget_itself_and_skips_what_is_taken() -> None:
    taken = {13}
    assert primes_from(11, 3, taken) == [11, 17, 19]
    assert taken == {11, 13, 17, 19}
    assert primes_from(11, 2, taken) == [23, 29]
