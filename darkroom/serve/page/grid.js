// Grids: one or two settings take several values each; all pictures lie in a labelled table as they come.

import { dialog, h, note, words } from "./dom.js";
import { on, state, submit } from "./store.js";

const MOST = 64;

// The values in a text: numbers and words between commas, `1-4` and `1..4` count up.
export function valuesOf(text, isText) {
  if (isText) return text.split(/[\n|]/).map((v) => v.trim()).filter(Boolean);
  return text.split(/[\n,;]/).map((v) => v.trim()).filter(Boolean).flatMap((v) => {
    const range = v.match(/^(\d+)\s*(?:-|\.\.)\s*(\d+)$/);
    if (range && Number(range[2]) - Number(range[1]) < MOST) return Array.from({ length: Number(range[2]) - Number(range[1]) + 1 }, (_, i) => Number(range[1]) + i);
    return v === "true" ? true : v === "false" ? false : v !== "" && !Number.isNaN(Number(v)) ? Number(v) : v;
  });
}

export function openGrid(form, model) {
  const texts = ["prompt", "negative_prompt"];
  const axis = (label, first) => {
    const which = h("select", { "aria-label": `${label}: setting` }, h("option", { value: "" }, "nothing"), form.axes().map(([path, name]) => h("option", { value: path }, name)));
    which.value = first;
    const values = h("input", { type: "text", "aria-label": `${label}: values`, placeholder: "1-4, or 2, 4, 8; prompts between |" });
    return { which, values, element: h("div", { className: "axis" }, h("span", {}, label), which, values), read: () => [which.value, valuesOf(values.value, texts.includes(which.value))] };
  };
  const x = axis("Columns", "steps"), y = axis("Rows", "");
  const problem = h("p", { role: "alert", hidden: true });
  const go = h("button", { type: "submit", className: "primary" }, "Draw the grid");
  const box = dialog("Grid", h("h2", {}, "Grid"), h("form", { onsubmit: draw }, x.element, y.element, problem, h("div", { className: "acts end" }, go)));
  x.values.focus();

  async function draw(event) {
    event.preventDefault();
    const [[xPath, xs], [yPath, ys]] = [x.read(), y.read()];
    const rows = yPath ? ys : [null], columns = xPath ? xs : [null];
    problem.hidden = true;
    const fail = (text) => { problem.textContent = text; problem.hidden = false; };
    if (!xPath || !xs.length || (yPath && !ys.length)) return fail("Say which setting changes, and its values.");
    if (xPath === yPath) return fail("Columns and rows change the same setting.");
    if (rows.length * columns.length > MOST) return fail(`These are ${rows.length * columns.length} pictures; a grid has at most ${MOST}.`);
    const { request, images } = form.values();
    if (request.seed === -1 && xPath !== "seed" && yPath !== "seed") request.seed = Math.floor(Math.random() * 2 ** 31); // one noise for all
    go.disabled = true;
    try {
      const cells = [];
      for (const row of rows) for (const column of columns) {
        const job = await submit({ model, images, count: 1, request: { ...request, [xPath]: column, ...(yPath ? { [yPath]: row } : {}) } });
        cells.push(job?.id ?? null);
      }
      box.close();
      show(xPath, columns, yPath, rows, cells, form.desk.classes("class"));
    } catch (error) {
      fail(error.message);
      go.disabled = false;
    }
  }
}

// `classes`: names of the model's classes by number, where it has them.
function show(xPath, columns, yPath, rows, cells, classes) {
  const cell = cells.map((id) => h("td", { "data-job": id ?? "" }));
  const label = (path, value) => `${words(path)} ${(path === "inputs.class" && classes[value]) || value}`;
  const table = h("table", { className: "grid" },
    h("thead", {}, h("tr", {}, yPath && h("td"), columns.map((v) => h("th", { scope: "col" }, label(xPath, v))))),
    h("tbody", {}, rows.map((v, r) => h("tr", {}, yPath && h("th", { scope: "row" }, label(yPath, v)), cell.slice(r * columns.length, (r + 1) * columns.length)))));
  const fill = (id, ...what) => cell[cells.indexOf(id)]?.replaceChildren(...what);
  const hear = (job) => {
    if (!table.isConnected || !cells.includes(job.id)) return;
    const [picture] = job.pictures;
    if (picture) fill(job.id, h("img", { src: picture.url, alt: picture.request.prompt ?? "" }));
    else if (job.state === "failed") fill(job.id, h("small", {}, job.error.message));
    else if (job.state === "cancelled") fill(job.id, h("small", {}, "cancelled"));
  };
  const box = dialog("Grid", h("h2", {}, "Grid"), h("div", { className: "scroll" }, table));
  box.classList.add("wide");
  on("job", hear);
  on("preview", ({ id, image }) => { if (table.isConnected && cells.includes(id)) fill(id, h("img", { src: image, alt: "" })); });
  for (const id of cells) { // what was drawn before this table stood
    const pictures = state.pictures.filter((p) => p.job === id);
    if (pictures.length) hear({ id, pictures, state: "done" });
  }
  if (cells.includes(null)) note("The server does not answer; what is missing here is drawn when it is back.");
}
