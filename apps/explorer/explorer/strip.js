// A list of tokens with their gates. Token text is not to be trusted: it enters as textContent alone.
const MARKS = /([␣↵⇥␍]|‹[^›]*›)/;

const BLOCK = 100;
const WHOLE = 600; // tokens that are laid out as one text, without the short line at the end of a block

const make = (tag, name, text) => {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};

// Long tokens are whole in the strip; what is read aloud and shown on hover is not longer than a line or two.
const note = (data, index) => {
  const text = data.tokens[index];
  const shown = text.length > 200 ? `${text.slice(0, 200)}… (${text.length} characters)` : text;
  const gates = data.rows.map((row) => `${row.name} ${row.values[index]?.toFixed(3) ?? "—"}`);
  return `token ${index} ${shown}: gate ${gates.join(", ")}`;
};

const chip = (data, index) => {
  const made = make("span", "chip");
  made.dataset.index = index;
  made.setAttribute("role", "option");
  made.setAttribute("aria-label", note(data, index));
  const lines = make("span", "lines");
  for (const order of data.orders) lines.append(make("i", `order-${order}`));
  const text = make("span", "text");
  for (const piece of data.tokens[index].split(MARKS)) {
    if (piece) text.append(MARKS.test(piece) ? make("span", "mark", piece) : piece);
  }
  const bars = make("span", "bars");
  for (const row of data.rows) {
    const bar = make("span", "bar");
    bar.style.setProperty("--share", `${100 * (row.values[index] ?? 0)}%`);
    bars.append(bar);
  }
  const share = data.rows[data.ground].values[index] ?? 0;
  text.style.setProperty("--share", `${100 * share}%`);
  text.style.color = data.inks[index];
  made.append(lines, text, bars);
  return made;
};

const mark = (one, data, at, index) => {
  one.setAttribute("aria-selected", String(at === index));
  one.tabIndex = at === index ? 0 : -1;
  data.orders.forEach((order, place) => {
    const inside = at <= index && at > index - order;
    const line = one.firstChild.children[place];
    line.classList.toggle("on", inside);
    line.classList.toggle("first", inside && (at === index - order + 1 || at === 0));
    line.classList.toggle("last", at === index);
  });
};

// Only the tokens around the one picked before and the one picked now change: a text may have thousands.
const pick = (list, data, index) => {
  const reach = Math.max(1, ...data.orders);
  for (const end of [list.marked ?? index, index]) {
    for (let at = Math.max(0, end - reach + 1); at <= end; at += 1) {
      if (list.chips[at]) mark(list.chips[at], data, at, index);
    }
  }
  list.marked = index;
};

// Of a long text the browser lays out and paints only the blocks that are in sight.
const fill = (list, data) => {
  list.chips = data.tokens.map((_, index) => chip(data, index));
  const size = list.chips.length > WHOLE ? BLOCK : WHOLE;
  const blocks = [];
  for (let at = 0; at < list.chips.length; at += size) {
    const block = make("div", "block");
    block.setAttribute("role", "presentation");
    block.append(...list.chips.slice(at, at + size));
    blocks.push(block);
  }
  list.replaceChildren(...blocks);
};

const move = (list, from, key) => {
  const last = list.chips.length - 1;
  const top = (at) => list.chips[at].offsetTop;
  if (key === "ArrowRight") return Math.min(from + 1, last);
  if (key === "ArrowLeft") return Math.max(from - 1, 0);
  if (key === "Home") return 0;
  if (key === "End") return last;
  const step = key === "ArrowDown" ? 1 : key === "ArrowUp" ? -1 : 0;
  if (!step) return null;
  let at = from;
  while (at + step >= 0 && at + step <= last && top(at) === top(from)) at += step;
  const line = top(at);
  const place = list.chips[from].offsetLeft;
  while (step < 0 && at > 0 && top(at - 1) === line && list.chips[at].offsetLeft > place) at -= 1;
  while (step > 0 && at < last && top(at + 1) === line && list.chips[at].offsetLeft < place) at += 1;
  return at;
};

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let list = parentElement.querySelector(".strip");
  if (!list) {
    list = make("div", "strip");
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-orientation", "horizontal");
    list.setAttribute("aria-label", "Tokens with their gates; arrow keys move, Enter picks");
    parentElement.append(list);
  }
  for (const [name, colour] of Object.entries(data.colours)) list.style.setProperty(`--${name}`, colour);
  const { version } = data;
  // A click is not sent back with new data; a strip that is drawn again on another page still shows it.
  const picked = window.engramPicked?.version === version ? window.engramPicked.index : data.picked;
  if (list.version !== version) {
    const focused = list.contains(list.getRootNode().activeElement);
    fill(list, data);
    list.version = version;
    list.marked = undefined;
    list.chips.forEach((one, at) => mark(one, data, at, picked));
    if (focused) list.chips[picked]?.focus({ preventScroll: true });
    pick(list, data, picked);
  }
  const shown = list.chips[picked];
  if (list.shown !== picked && shown) {
    const above = shown.offsetTop - list.offsetTop;
    const hidden = above < list.scrollTop || above + shown.offsetHeight > list.scrollTop + list.clientHeight;
    if (hidden) list.scrollTop = above - list.clientHeight / 2;
    list.shown = picked;
  }

  const choose = (index) => {
    window.engramPicked = { version, index };
    pick(list, data, index);
    setTriggerValue("picked", index);
  };
  list.onpointerover = (event) => {
    const one = event.target.closest(".chip");
    if (one) one.title = one.getAttribute("aria-label");
  };
  list.onclick = (event) => {
    const one = event.target.closest(".chip");
    if (one) choose(Number(one.dataset.index));
  };
  list.onkeydown = (event) => {
    const one = event.target.closest(".chip");
    if (!one || event.ctrlKey || event.metaKey || event.altKey) return;
    const from = Number(one.dataset.index);
    const to = move(list, from, event.key);
    if (event.key === "Enter" || event.key === " ") choose(from);
    else if (to !== null) list.chips[to].focus();
    else return;
    event.preventDefault();
  };
}
