"""One page and one bundle that say what was found about a pair of models.

`analyse` runs every analysis and gives the `Findings`, `page` writes them as HTML for a reader who has
only the page, and `write` puts page and bundle into a directory without ever leaving half of them:

    from engram_interp import pairs, report
    from engram_interp.data import prompts

    pair = pairs.load("wiki-nano")
    found = report.analyse(pair.engram, pair.baseline, prompts.load("entities"), name=pair.name)
    report.write(found, "report")
"""

from engram_interp.report.analyses import Findings, analyse
from engram_interp.report.folder import check, write
from engram_interp.report.page import page

__all__ = ["Findings", "analyse", "check", "page", "write"]
