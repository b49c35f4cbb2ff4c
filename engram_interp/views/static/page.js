// Draws the figures of the page, in the reader's colour scheme; on paper always light, folds open.
(() => {
  const data = JSON.parse(document.getElementById("figures").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");

  const recolour = (value) => {
    if (typeof value === "string") return Object.hasOwn(data.dark, value) ? data.dark[value] : value;
    if (Array.isArray(value)) return value.map(recolour);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recolour(inner)]));
  };

  const PAPER_WIDTH = 680; // pixels that fit a page of A4 or Letter
  let folded = null; // while printing: the folds that were opened for it

  const draw = () => {
    const dark = scheme.matches && folded === null;
    for (const slot of document.querySelectorAll("[data-figure]")) {
      if (slot.closest("details:not([open])")) continue; // drawn when its fold opens
      const plain = data.figures[Number(slot.dataset.figure)];
      const figure = dark ? recolour(plain) : structuredClone(plain);
      if (folded !== null) figure.layout.width = PAPER_WIDTH;
      Plotly.react(slot, figure.data, figure.layout, data.config);
    }
  };

  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const fold of folded) fold.open = true;
    draw();
  });
  window.addEventListener("afterprint", () => {
    for (const fold of folded ?? []) fold.open = false;
    folded = null;
    draw();
  });
  for (const fold of document.querySelectorAll("details")) {
    fold.addEventListener("toggle", () => { if (fold.open) draw(); });
  }
  scheme.addEventListener("change", draw);
  draw();
})();
