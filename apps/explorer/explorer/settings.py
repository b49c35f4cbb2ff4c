"""What is set on a page beside the selection, bound to the address like it.

Every setting is declared here once: its name in links, what it may be, and where it starts. A link that
says something else is set right, and one line says so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.mutable_expander_container import ExpanderContainer

from engram_interp.views import tables
from engram_interp.views.curves import QUANTITIES
from explorer import selection
from explorer.spec import KINDS


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Attributes:
        param: its name in links.
        options: what it may be; empty where the page says what fits.
        several: whether it may be several of the options, with commas between them.
        pattern: what it is written like, where that is neither options nor the page's to say.
        wanted: the same in words.
        start: what it is until somebody sets it.
        key: its widget's key.
    """

    param: str
    options: tuple[str, ...] = ()
    several: bool = False
    pattern: str = ""
    wanted: str = ""
    start: str = ""
    key: str

    @property
    def value(self) -> str:
        """What it is now."""
        found = selection.current().settings.get(self.param, self.start)
        return found if self.takes(found) else self.start

    def takes(self, value: str) -> bool:
        """Whether it may be `value`, as far as that can be told without the page."""
        if not value:
            return "" in self.options or not self.options
        if self.options:
            several = value.split(",") if self.several else [value]
            return all(one in self.options for one in several) and (
                "none" not in several or several == ["none"]
            )
        return not self.pattern or re.fullmatch(self.pattern, value) is not None

    def nearest(self, value: str) -> str:
        """What is taken of a `value` that it may not be: of several those that exist, else what it is now."""
        several = value.split(",") if self.several else []
        exist = [one for one in several if one in self.options and one != "none"]
        return ",".join(exist) or self.value

    def refused(self, value: str, *, taken: str) -> str:
        """The line that says so, in the words of the link."""
        named = ", ".join(filter(None, self.options))
        wanted = self.wanted or f"{'made of' if self.several else 'one of'} {named}"
        shown = f"{self.param}={taken} is shown" if taken else "it is left out"
        return f"The link says {self.param}={value}, but {self.param} is {wanted}; {shown}."

    def put(self, value: str) -> None:
        """Set it."""
        selection.set_to(**{self.param: value})


_SHIFTS = ("path", "peak", "soft")
_SWITCH = ("on", "off")
DATA = Setting(param="data", key="data of the map")
ALIGNMENT = Setting(param="align", options=(*_SHIFTS, "none"), start="path", key="alignment")
SELF_REFERENCE = Setting(param="self", options=_SWITCH, start="on", key="self-reference")
ESTIMATE = Setting(param="shift", options=_SHIFTS, start="path", key="estimate")
TOP_K = Setting(param="k", key="k of the soft index")
QUANTITY = Setting(param="q", options=tuple(QUANTITIES), start="kl", key="quantity")
LOG = Setting(param="log", options=_SWITCH, start="off", key="log scale")
MEMORY = Setting(param="off", options=("on", *list(KINDS)[:3]), start="on", key="switch")
WHERE = Setting(param="where", options=("here", "everywhere"), start="here", key="where")
ORDERS = Setting(
    param="n",
    pattern=r"none|[0-9]{1,4}(,[0-9]{1,4})*",
    wanted="a list of lengths such as 2,3, or none",
    key="orders",
)
DRAW = Setting(param="draw", pattern=r"[0-9]{1,9}", wanted="a number from 0 on", key="draw of the controls")
RUN = Setting(param="run", options=("", "live"), key="prompt run live")
SLOT = Setting(param="slot", key="slot")
SORTED: Mapping[str, tables.SlotOrder] = {
    "order, head": "order",
    "share": "share",
    "norm": "row_norm",
    "hits": "hits",
}
SORT = Setting(param="sort", options=tuple(SORTED), start="order, head", key="rows sorted by")
LENGTH = Setting(param="length", start="all", key="rows of n-grams")
VIEW = Setting(param="view", options=("columns", "sources", "parts"), start="columns", key="attribution view")
LIVE = Setting(param="live", options=_SWITCH, start="off", key="live panels")
SPEC = Setting(param="spec", key="ablation")
BESIDE = Setting(param="vs", key="ablation beside")
OTHER = Setting(param="with", key="other bundle")
AXES = Setting(param="axes", options=_SWITCH, start="on", key="same axes")
SHOWN = Setting(param="part", key="compared part")
PARTS = Setting(
    param="parts",
    options=("layers", "tokens", "memory", "ablate", "others", "none"),
    several=True,
    start="layers,tokens,memory,ablate,others",
    key="report parts",
)
NOTE = Setting(param="note", key="report note")
PROBES = Setting(param="probes", key="probe set")
OPEN = Setting(param="open", key="open folds")
TOUR = Setting(param="tour", options=("", *"12345"), key="tour")

OF_PAGE: Mapping[str, Sequence[Setting]] = {
    "layers": (DATA, ALIGNMENT, SELF_REFERENCE, ESTIMATE, TOP_K, QUANTITY, LOG),
    "tokens": (MEMORY, WHERE, ORDERS, DRAW, RUN),
    "memory": (SLOT, SORT, LENGTH, VIEW, LIVE, RUN),
    "ablate": (SPEC, BESIDE, RUN, PROBES),
    "compare": (OTHER, SHOWN, AXES),
    "report": (
        PARTS, NOTE, RUN, SPEC, BESIDE, MEMORY, WHERE, ORDERS, DRAW, ALIGNMENT, SELF_REFERENCE, ESTIMATE,
        TOP_K, QUANTITY, LOG, SLOT, SORT, LENGTH, VIEW, PROBES, LIVE,
    ),
}  # fmt: skip

MODEL = Setting(param="model", key="model that ran")
"""Of a text that runs live: whoever opens the link sees the same numbers, or is told which model runs it."""
_EVERYWHERE = (OPEN, TOUR, MODEL)
_ASKED = "model of the link"


def address(page: str) -> dict[str, str]:
    """The settings of a page as parameters of a link; those that are empty are left out."""
    return {s.param: s.value for s in (*OF_PAGE.get(page, ()), *_EVERYWHERE) if s.value}


def adopt(params: Mapping[str, str], *, page: str) -> list[str]:
    """Take over what a link to `page` sets; returns a line for each value that does not exist.

    A link that this tool wrote is whole: what it leaves out was empty.
    """
    known = {s.param: s for s in (*(s for page in OF_PAGE.values() for s in page), *_EVERYWHERE)}
    found = {name: value for name, value in params.items() if name in known}
    wrong = {name: value for name, value in found.items() if not known[name].takes(value)}
    taken = {name: known[name].nearest(value) for name, value in wrong.items()}
    empty = {s.param: "" for s in (*OF_PAGE.get(page, ()), *_EVERYWHERE) if not s.start and "v" in params}
    selection.set_to(**empty | found | taken)
    st.session_state[_ASKED] = found.get(MODEL.param, "")
    more = [name for name in params if name not in known and name not in selection.PARAMETERS]
    return [
        *(known[name].refused(value, taken=taken[name]) for name, value in sorted(wrong.items())),
        *(f"The link also says {name}, which means nothing here; it is left out." for name in more),
    ]


def asked_model() -> str:
    """The model that a link named, once after it was taken over; else empty."""
    return str(st.session_state.pop(_ASKED, ""))


def fold(label: str, *, key: str) -> ExpanderContainer:
    """A fold whose inside is drawn when it is opened; a link opens what was open."""
    st.session_state.setdefault(key, key in OPEN.value.split(","))

    def turned() -> None:
        others = [name for name in OPEN.value.split(",") if name not in {"", key}]
        OPEN.put(",".join([*others, *([key] if st.session_state[key] else [])]))

    return st.expander(label, key=key, on_change=turned)


def segmented(
    place: DeltaGenerator,
    label: str,
    setting: Setting,
    *,
    say: Callable[[str], str] = str,
    options: Sequence[str] | None = None,
    also: Setting | None = None,
) -> str:
    """A row of choices for a setting; returns what is chosen.

    Args:
        place: where the row is drawn.
        label: above it.
        setting: what it sets.
        say: how a choice is shown.
        options: the choices, where the page says what fits.
        also: another setting that follows it wherever it may be the same.
    """
    st.session_state[setting.key] = setting.value

    def choose() -> None:
        value = str(st.session_state[setting.key])
        setting.put(value)
        if also is not None and also.takes(value):
            also.put(value)

    place.segmented_control(
        label,
        setting.options if options is None else options,
        key=setting.key,
        required=True,
        format_func=say,
        on_change=choose,
    )
    return setting.value


def toggled(place: DeltaGenerator, label: str, setting: Setting, *, disabled: bool = False) -> bool:
    """A switch for a setting; returns whether it is on."""
    st.session_state[setting.key] = setting.value == "on"
    place.toggle(
        label,
        key=setting.key,
        disabled=disabled,
        on_change=lambda: setting.put("on" if st.session_state[setting.key] else "off"),
    )
    return setting.value == "on"


def picked(
    place: DeltaGenerator,
    label: str,
    setting: Setting,
    options: Mapping[str, str],
    *,
    about: str | None = None,
    said: str = "",
) -> str:
    """A list for a setting whose choices the page knows; one that does not exist is the first.

    Args:
        place: where the list is drawn.
        label: above it.
        setting: what it sets.
        options: the choices, by value, as they are shown.
        about: the help beside the label.
        said: what a choice is called in the line about one that does not exist; empty for no line.
    """
    value = setting.value if setting.value in options else next(iter(options), "")
    if value != setting.value:
        if setting.value and said:
            selection.note(
                f"There is no {said} “{setting.value}” here; {options.get(value, 'none')} is shown."
            )
        setting.put(value)  # links say from now on what is shown
    st.session_state[setting.key] = value if value in options else None
    place.selectbox(
        label,
        list(options),
        key=setting.key,
        format_func=lambda name: options[name],
        on_change=lambda: setting.put(str(st.session_state[setting.key] or "")),
        placeholder="none here",
        disabled=not options,
        help=about,
    )
    return value
