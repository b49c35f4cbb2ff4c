"""What the menu says of the explorer: the pages, how things are counted, the keys."""

from engram_interp import __version__

HELP = f"""
### Engram explorer {__version__}

**The pages** follow the questions: *Layers* (which layer?), *Tokens* (which token?), *Memory* (which slot?),
*Ablate* (does it matter?), *Compare* and *Report*. What is chosen in the bar stays chosen from page to page.

**Layers and tokens** are counted from 0; the paper counts layers from 1. A gate lies between 0 and 1, and 0.5
is neutral; grey bands are what an untrained gate does.

**By keyboard:** Tab reaches everything. In a text the arrow keys, Home and End move over the tokens, and
Enter picks one. A cell of a map is also set by the two numbers beside it.

**To take away:** *Copy link* restores what you see; under every panel stand its numbers (CSV), a page that
opens offline (HTML), a picture where it is a figure (PNG), and the lines that draw it in a notebook (code).

**No number here stands alone:** beside it are its null or its control, and its interval where there is more
than one document to take it over; what one prompt shows has none, and says so. A raw logit lens is named as
one, an ablation by what exactly it does.

Nothing leaves the machine that serves these pages.
"""
