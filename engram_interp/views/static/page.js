// Draws the figures of the page, in the reader's colour scheme; on paper and in files light, folds open.
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

  // Figures to take away: as vectors for a paper, as pixels for a slide; those in closed folds too.
  const FILE_WIDTH = 1000;
  const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  const named = slug(document.title).slice(0, 60) || "figure";
  const save = async (format, number) => {
    const { data: traces, layout } = structuredClone(data.figures[number]);
    const size = { width: FILE_WIDTH, height: layout.height ?? 450, scale: format === "png" ? 3 : 1 };
    const slot = document.querySelector(`[data-figure="${number}"]`);
    const section = slug(slot?.closest("section")?.querySelector("h2")?.textContent ?? "").slice(0, 60);
    const filename = [named, String(number + 1).padStart(2, "0"), section].filter(Boolean).join("-");
    await Plotly.downloadImage({ data: traces, layout, config: data.config }, { format, filename, ...size });
  };
  const line = document.createElement("p");
  line.className = "note saving";
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  const many = data.figures.length > 1 ? `${data.figures.length} figures` : "figure";
  line.append(`Save the ${many}, in light colours: `);
  for (const format of ["svg", "png"]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = format.toUpperCase();
    button.onclick = async () => {
      button.disabled = true;
      const failed = [];
      for (let number = 0; number < data.figures.length; number += 1) {
        await save(format, number).catch(() => failed.push(number + 1));
      }
      button.disabled = false;
      said.textContent = failed.length ? `Not saved: figure ${failed.join(", ")}.` : "";
    };
    line.append(button, " ");
  }
  line.append(said);
  (document.querySelector("nav") ?? document.querySelector(".lead") ?? document.querySelector("h1")).after(line);
})();
