"""Live runs of the explorer in a real browser: a long text, and visitors who type at once."""

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Browser, Page

from benchmarks.limits import Measured, fresh, timed
from engram_interp.views.theme import number
from engram_interp.views.tokens import visible
from scripts.screenshots import settle

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel

WRONG = ".stException, .engram-state.error"
RUNS = 5
TOKENS = 200
"""Of a text that is run live."""
WORDS = "the history of the city and the river in the north of the country was written by many people"
PHRASES = (
    "The People's Republic of", "The President of the United", "The Pope John Paul", "The city of New York",
    "The Battle of the Somme", "The University of Oxford", "The river Thames in", "The kingdom of Prussia",
    "The Olympic Games of", "The Second World War",
)  # fmt: skip


@cache
def model() -> "SubjectModel":
    """The model of the packaged pair, in this process: what the pages should show."""
    from engram_interp.checkpoints import load_model

    return load_model("wiki-nano")


def text_of(count: int, opening: str) -> str:
    """A text of exactly so many tokens, the separator among them."""
    words = [opening, *(WORDS.split() * count)[:count]]
    while model().to_tokens(" ".join(words)).shape[-1] > count:
        words.pop()
    while model().to_tokens(" ".join(words)).shape[-1] < count:
        words.append("the")
    assert model().to_tokens(" ".join(words)).shape[-1] == count, words
    return " ".join(words)


def live(browser: Browser, address: str) -> list[Measured]:
    """A text of 200 tokens typed, until its gates and its lens are there; PyTorch is loaded before."""
    context, page = fresh(browser)
    page.goto(f"{address}/tokens?b=wiki-nano&run=live&prompt=napoleon")
    settle(page)
    took: list[float] = []
    counts: list[float] = []
    for year in range(1900, 1900 + RUNS):
        text = text_of(TOKENS, f"In {year}")

        def act(text: str = text) -> None:
            page.get_by_label("Type a phrase").fill(text)
            page.keyboard.press("Enter")
            page.get_by_text(f"{TOKENS} tokens, run now by wiki-nano/engram").wait_for()
            page.locator("#lens-window").wait_for()

        took.append(timed(act))
        counts.append(page.locator(".strip .chip").count())
        page.goto(f"{address}/tokens?b=wiki-nano&prompt=napoleon")
        settle(page)
    context.close()
    return [
        Measured(what="typed text, live, to gates and lens", values=tuple(took), limit=3),
        Measured(what="its tokens", values=tuple(counts), limit=TOKENS, unit="", least=True),
    ]


# What a page said while it waited: the words come and go faster than they can be asked for from outside.
_LISTEN = """() => new MutationObserver(() => {
  window.queued ||= document.body.innerText.includes("before it");
}).observe(document.body, { childList: true, subtree: true, characterData: true })"""


def visitors(browser: Browser, address: str, pid: int, *, count: int) -> list[Measured]:
    """Visitors who type at once: each must see panels of its own text, and those who wait are told so."""
    opened = []
    for _ in range(count):
        context, page = fresh(browser)
        page.goto(f"{address}/tokens?b=wiki-nano")
        settle(page)
        page.evaluate(_LISTEN)
        opened.append((context, page))
    texts = [text_of(TOKENS, f"{PHRASES[one % len(PHRASES)]} {one}") for one in range(count)]
    for (_, page), text in zip(opened, texts, strict=True):
        page.get_by_label("Type a phrase").fill(text)
    for _, page in opened:
        page.keyboard.press("Enter")
    wrong: list[float] = []
    crashed: list[float] = []
    told = 0
    for (context, page), text in zip(opened, texts, strict=True):
        page.locator(f":text('run now by wiki-nano/engram'), {WRONG}").first.wait_for()
        settle(page)
        crashed.append(page.locator(WRONG).count())
        wrong.append(sum(not _shows(page, what, said) for what, said in _expected(text).items()))
        told += bool(page.evaluate("window.queued === true"))
        context.close()
    died = not Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    least = 1 if count > 1 else 0
    return [
        Measured(what=f"{count} visitors: wrong panels of each", values=tuple(wrong), limit=0, unit=""),
        Measured(what=f"{count} visitors: errors of each", values=tuple(crashed), limit=0, unit=""),
        Measured(what="the server died", values=(float(died),), limit=0, unit=""),
        Measured(what="visitors told that they queue", values=(told,), limit=least, unit="", least=True),
    ]


def _expected(text: str) -> dict[str, list[str]]:
    """By panel, what it must hold of a text's last token, computed in this process."""
    from engram_interp import lens, slots

    read, looked = slots.lookup(model(), text).data.isel(token=-1), lens.table(model(), text).data
    tokens = [visible(str(token)) for token in looked["token_text"].values]
    best = looked.isel(layer=-1, token=-1)
    share, answer = math.exp(float(best["top_logprob"][0])), visible(str(best["top_token"][0].item()))
    gates = [number(float(gate)) for gate in read["gate"].values.ravel()]
    return {
        ".strip .text": tokens,
        ".readout": [f"Token {len(tokens) - 1} ", *gates],
        "table:has(caption:text('Memory read at token'))": [
            visible(str(gram)) for gram in read["ngram"].values
        ],
        ".predictions .answer-share": [number(share), answer],
        "#lens-window thead": tokens[-8:],
    }


def _shows(page: Page, panel: str, said: list[str]) -> bool:
    """Whether a panel holds all of `said`; the strip, nothing else."""
    if panel.startswith(".strip"):
        return page.locator(panel).all_inner_texts() == said
    shown = page.locator(panel).all_inner_texts()
    return bool(shown) and all(word in " ".join(shown) for word in said)
