"""Errors a reader can act on.

Every error raised on purpose says what was wanted, what came, and what to do. The command line
prints the message of an `InputError` on one line and exits with 1; anything else is a defect of
ours and keeps its traceback.
"""


class InputError(ValueError):
    """Something given to the tool cannot be used; the message says why and what to do."""


class DamagedFileError(InputError):
    """A file is cut short, altered, or not what its name and manifest say."""
