"""``python -m engram_interp`` is ``engram-interp``."""

from engram_interp.cli import main

main()
