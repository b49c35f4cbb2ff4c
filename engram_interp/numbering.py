"""Lists of whole numbers as people write them: ``3, 7-9``."""

from collections.abc import Iterable

MOST = 100_000
"""No run of numbers ends as high: what a link asks for stays small."""


def runs_of(values: Iterable[int]) -> list[str]:
    """Numbers in order, three and more in a row as a run.

    >>> runs_of([9, 3, 7, 8, 12, 13])
    ['3', '7-9', '12', '13']
    """
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return [said for run in runs for said in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run))]


def numbers(text: str) -> tuple[int, ...] | None:
    """The numbers that a list names, each once and in order; None where it is no such list.

    >>> numbers("12, 3,7-9"), numbers("7-"), numbers("9-7"), numbers("")
    ((3, 7, 8, 9, 12), None, None, None)
    """
    found: set[int] = set()
    for part in text.replace("–", "-").split(","):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() and len(end) < 10 for end in ends):
            return None
        first, last = int(ends[0]), int(ends[-1])
        if len(ends) == 2 and not first <= last < MOST:
            return None
        found |= set(range(first, last + 1))
    return tuple(sorted(found))
