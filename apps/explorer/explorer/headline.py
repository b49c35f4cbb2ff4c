"""The headline: the mean shift after the first memory read, beside what the residuals before it show."""

from engram_interp.results import Bundle, DepthResult
from engram_interp.views import headlines
from engram_interp.views.markup import element
from explorer import export, style


def show(depth: DepthResult, *, bundle: Bundle, verdict: str) -> None:
    """The headline number beside its control, what all views allow to say, then the sentence of this one."""
    style.html(element("h2", "Does the memory make the network effectively deeper?", class_="engram-title"))
    style.html(headlines.headline(depth.data))
    style.html(element("p", verdict, class_="engram-verdict"))
    style.html(element("p", depth.summary(), class_="engram-lead"))
    export.tools(
        depth,
        bundle=bundle,
        part="depth",
        call="",
        views=["headlines.headline(result.data)"],
        parts=lambda: [headlines.headline(depth.data)],
    )
