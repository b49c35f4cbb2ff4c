"""Prime numbers for table sizes, up to the tens of millions real tables use."""

from engram_interp.errors import InputError

_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
"""Miller-Rabin with these bases is exact below 3.3e24 (Sorenson and Webster 2015)."""


def is_prime(n: int) -> bool:
    """Whether n is prime, exactly, for n below 3.3e24."""
    if n < 2:
        return False
    for p in _WITNESSES:
        if n % p == 0:
            return n == p
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(n, base, odd, twos) for base in _WITNESSES)


def _passes(n: int, base: int, odd: int, twos: int) -> bool:
    x = pow(base, odd, n)
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False


def nth_prime_after(start: int, count: int) -> int:
    """The count-th prime greater than start (count at least 1)."""
    if count < 1:
        raise InputError(f"nth_prime_after counts primes from 1, got {count}.")
    n = start
    for _ in range(count):
        n += 1
        while not is_prime(n):
            n += 1
    return n


def primes_from(budget: int, count: int, taken: set[int]) -> list[int]:
    """The first `count` primes ≥ budget that are not in `taken`, which they then join."""
    found: list[int] = []
    n = budget - 1
    while len(found) < count:
        n = nth_prime_after(n, 1)
        if n not in taken:
            found.append(n)
            taken.add(n)
    return found
