// Boxes on the picture to be drawn: objects of a layout by the number of their class, or regions with a prompt of their own.

import { h, words } from "./dom.js";
import { row } from "./fields.js";

const SIDES = ["left", "top", "right", "bottom"];
const round = (share) => Math.round(Math.min(1, Math.max(0, share)) * 1000) / 1000;

export function boxesField(path, schema, desk) {
  const isRegions = schema["x-kind"] === "regions";
  let boxes = []; // {at: [left, top, right, bottom], text or label, weight}
  const area = h("div", { className: "area", "aria-hidden": "true" });
  const list = h("ol", { className: "boxes", "aria-label": words(path) });
  const add = h("button", { type: "button", className: "quiet", onclick: () => { boxes.push({ at: [0.25, 0.25, 0.75, 0.75], label: 0, text: "" }); show(); list.lastChild.querySelector("input").focus(); desk.changed(); } }, "Add a box");
  const holder = h("div", { className: "layout" }, area, list, add);
  const element = row(path, { description: isRegions ? schema.description : "Drag on the field, or add a box and type its sides as shares of the picture." }, holder);
  element.querySelector("label").removeAttribute("for");

  let drawn = null;
  const place = (event) => {
    const box = area.getBoundingClientRect();
    return [round((event.clientX - box.left) / box.width), round((event.clientY - box.top) / box.height)];
  };
  area.addEventListener("pointerdown", (event) => { area.setPointerCapture(event.pointerId); drawn = { from: place(event), box: { at: [0, 0, 0, 0], label: boxes.at(-1)?.label ?? 0, text: "" } }; boxes.push(drawn.box); });
  area.addEventListener("pointermove", (event) => {
    if (!drawn) return;
    const [[a, b], [c, d]] = [drawn.from, place(event)];
    drawn.box.at = [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
    outline();
  });
  area.addEventListener("pointerup", () => {
    const [l, t, r, b] = drawn.box.at;
    if (r - l < 0.02 || b - t < 0.02) boxes.pop();
    drawn = null;
    show();
    desk.changed();
  });

  function outline() {
    const { width, height } = desk.size();
    area.style.setProperty("--shape", `${width} / ${height}`);
    area.replaceChildren(...boxes.map(({ at: [l, t, r, b] }, i) => {
      const box = h("i", {}, String(i + 1));
      Object.assign(box.style, { left: `${100 * l}%`, top: `${100 * t}%`, width: `${100 * (r - l)}%`, height: `${100 * (b - t)}%` });
      return box;
    }));
  }
  function show() {
    outline();
    list.replaceChildren(...boxes.map((box, i) => {
      const name = isRegions
        ? h("input", { type: "text", value: box.text, placeholder: "what is there", "aria-label": `Prompt of box ${i + 1}`, oninput: (e) => { box.text = e.target.value; desk.changed(); } })
        : h("input", { type: "number", min: 0, value: box.label, list: "classes-boxes", title: desk.classes("boxes")[box.label], "aria-label": `Class of box ${i + 1}`, oninput: (e) => { box.label = Number(e.target.value); e.target.title = desk.classes("boxes")[box.label] ?? ""; desk.changed(); } });
      const sides = SIDES.map((side, n) => h("input", { type: "number", min: 0, max: 1, step: 0.05, value: box.at[n], "aria-label": `${words(side)} of box ${i + 1}`, oninput: (e) => { box.at[n] = Number(e.target.value); outline(); desk.changed(); } }));
      const remove = h("button", { type: "button", className: "quiet", "aria-label": `Remove box ${i + 1}`, onclick: () => { boxes.splice(i, 1); show(); desk.changed(); } }, "✕");
      return h("li", {}, name, h("span", { className: "sides" }, sides), remove);
    }));
  }
  show();
  return {
    path, element,
    resized: outline,
    get: () => (!boxes.length ? undefined : boxes.map(({ at, label, text, weight }) =>
      isRegions ? { prompt: text, box: at, ...(weight === undefined ? {} : { weight }) } : { label, x0: at[0], y0: at[1], x1: at[2], y1: at[3] })),
    set(value) {
      boxes = (value ?? []).map((v) => (isRegions ? { at: [...v.box], text: v.prompt, weight: v.weight } : { at: [v.x0, v.y0, v.x1, v.y1], label: v.label }));
      show();
    },
  };
}
