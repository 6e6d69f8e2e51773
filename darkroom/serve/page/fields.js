// One field of the form for each setting of the schema, by its type: {path, element, get(), set(value)}; nothing said is undefined.

import { complete } from "./complete.js";
import { h, words } from "./dom.js";
import { boxesField } from "./boxes.js";
import { controlsField } from "./controls.js";
import { pictureField } from "./picture.js";

const LISTS = { sampler: "samplers", schedule: "schedules" }; // settings whose values the server lists
const TALL = ["prompt", "negative_prompt"];

// `desk`: what fields share: `names` by list, `changed()`, `field(path)`, `size()` of what is to be drawn.
export function field(path, schema, desk) {
  const kind = schema["x-kind"];
  if (["picture", "mask", "classes", "depth"].includes(kind)) return pictureField(path, schema, desk);
  if (kind === "boxes" || kind === "regions") return boxesField(path, schema, desk);
  if (kind === "controls") return controlsField(path, schema, desk);
  const types = [schema.type].flat();
  if (types.includes("boolean")) return flag(path, schema, desk);
  if (schema.enum) return choice(path, schema, desk);
  if (types.includes("array")) return numbers(path, schema, desk);
  if (types.includes("number") || types.includes("integer")) return number(path, schema, desk, types.includes("integer"));
  return text(path, schema, desk);
}

// A labelled row; the help of the setting is read with it.
export function row(path, schema, control, label = words(path)) {
  const id = `f-${path}`, hint = schema.description && h("small", { id: `${id}-hint` }, schema.description);
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  return h("div", { className: "row", "data-path": path }, h("label", { htmlFor: id }, label), control, hint);
}

function flag(path, schema, desk) {
  const box = h("input", { type: "checkbox", onchange: desk.changed });
  const usual = schema.default ?? false;
  return {
    path, element: row(path, schema, box),
    get: () => (box.checked === usual ? undefined : box.checked),
    set(value) { box.checked = value ?? usual; },
  };
}

function choice(path, schema, desk) {
  const usual = schema.default;
  const select = h("select", { onchange: desk.changed }, h("option", { value: "" }, usual ? `${usual} (usual)` : "usual"),
    schema.enum.filter((v) => v !== usual && v !== null).map((v) => h("option", { value: v }, v)));
  return { path, element: row(path, schema, select), get: () => select.value || undefined, set(value) { select.value = value === usual ? "" : value ?? ""; } };
}

function number(path, schema, desk, isWhole) {
  const input = h("input", {
    type: "number", step: isWhole ? "1" : "any", inputMode: isWhole ? "numeric" : "decimal", oninput: desk.changed,
    placeholder: schema.default === undefined || path === "seed" ? "" : String(schema.default),
  });
  if (path === "seed") return seed(path, schema, input, desk);
  if (path === "inputs.class") return classNumber(path, schema, input, desk);
  return { path, element: row(path, schema, input), usual: (v) => { input.placeholder = v ?? schema.default ?? ""; }, get: () => (input.value === "" ? undefined : Number(input.value)), set(value) { input.value = value ?? ""; } };
}

// With the names that the model has for its classes: one beside the number, all to choose from.
function classNumber(path, schema, input, desk) {
  input.setAttribute("list", "classes-class");
  const element = row(path, schema, input), hint = element.querySelector("small");
  const offer = () => { hint.textContent = desk.classes("class")[input.value] ?? schema.description; };
  input.addEventListener("input", offer);
  return { path, element, offer, get: () => (input.value === "" ? undefined : Number(input.value)), set(value) { input.value = value ?? ""; offer(); } };
}

// An empty seed is another picture each time.
function seed(path, schema, input, desk) {
  input.placeholder = "another each time";
  const element = row(path, { description: "" }, input);
  const dice = h("button", { type: "button", className: "quiet", title: "Another seed each time", "aria-label": "Another seed each time", onclick: () => { input.value = ""; desk.changed(); } }, "⚄");
  const joined = h("span", { className: "joined" });
  input.replaceWith(joined);
  joined.append(input, dice);
  return { path, element, get: () => (input.value === "" ? -1 : Number(input.value)), set(value) { input.value = value === undefined || value === -1 ? "" : value; } };
}

function numbers(path, schema, desk) {
  const input = h("input", { type: "text", placeholder: schema.maxItems ? "from, to" : "14.6, 6.5, …", oninput: desk.changed });
  return {
    path, element: row(path, schema, input),
    get: () => (input.value.trim() ? input.value.split(/[\s,;]+/).filter(Boolean).map(Number) : undefined),
    set(value) { input.value = value?.join(", ") ?? ""; },
  };
}

function text(path, schema, desk) {
  const usual = schema.default || undefined;
  if (TALL.includes(path)) {
    const area = h("textarea", { rows: path === "prompt" ? 4 : 1, placeholder: path === "prompt" ? "a red house left of a yellow tree, at night" : "nothing", oninput: desk.changed });
    const element = row(path, { description: "" }, area, path === "prompt" ? "What to draw" : "What to keep away from");
    complete(area, desk);
    return { path, element, get: () => area.value || undefined, set(value) { area.value = value ?? ""; } };
  }
  const listed = LISTS[path], list = listed && h("datalist", { id: `list-${path}` });
  const input = h("input", { type: "text", placeholder: usual ?? "", oninput: desk.changed, ...(list ? { list: list.id } : {}) });
  const element = row(path, listed ? { description: "" } : schema, input);
  if (list) element.append(list);
  return {
    path, element,
    offer() { list?.replaceChildren(...(desk.names[listed] ?? []).map((name) => h("option", { value: typeof name === "string" ? name : name.id }))); },
    usual: (v) => { input.placeholder = v ?? usual ?? ""; },
    get: () => input.value.trim() || undefined,
    set(value) { input.value = value ?? ""; },
  };
}
