// The form, made from the schema of a request: a setting that the server learns appears here by itself.

import { $, h, words } from "./dom.js";
import { field } from "./fields.js";

const ALWAYS = ["prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "seed", "sampler", "schedule"];
const FIRST = "What to draw"; // the panel of those; what else is in it goes under a heading of its own
const HIDDEN = ["latent"];
const OF_MODELS = ["prompt", "negative_prompt"]; // what most models read, and some do not; as `inputs` are
const CLASSES = ["class", "boxes", "segmentation"]; // inputs that are classes by number, which a model may have names for
const KEPT = "darkroom-form";
const SHAPES = [["Square", 1], ["3:2", 3 / 2], ["2:3", 2 / 3], ["16:9", 16 / 9], ["9:16", 9 / 16]];

export class Form {
  // `schema`: of /v1/schema; `names`: lists of the server by name, filled as they come.
  constructor(schema, names) {
    this.fields = new Map();
    this.model = null;
    this.desk = {
      names, changed: () => this.changed(), field: (path) => this.fields.get(path), size: () => this.size(),
      classes: (key) => this.model?.classes?.[key] ?? [],
    };
    const panels = new Map();
    for (const [path, described] of flat(schema)) {
      if (HIDDEN.includes(path)) continue;
      const made = field(path, described, this.desk);
      made.needs = described["x-needs"];
      made.isOneValue = !described["x-kind"] && ![described.type].flat().includes("array");
      this.fields.set(path, made);
      const panel = described["x-panel"] ?? "More";
      if (!panels.has(panel)) panels.set(panel, []);
      panels.get(panel).push(made);
    }
    const always = ALWAYS.filter((path) => this.fields.has(path));
    $("fields").replaceChildren(h("div", { className: "always" }, this.shapes(), always.map((path) => this.fields.get(path).element)),
      ...[...panels].map(([panel, fields]) => this.panel(panel === FIRST ? "Sampling in detail" : panel, fields.filter((f) => !always.includes(f.path)))));
    $("fields").append(...CLASSES.map((key) => h("datalist", { id: `classes-${key}` })));
    for (const path of ["width", "height"]) if (this.fields.has(path)) $("shape-here").append(this.fields.get(path).element);
    this.restore();
    this.changed();
  }

  // Pictures come first: what else is in the panel is about them.
  panel(name, given) {
    const fields = [...given].sort((a, b) => Boolean(b.isPicture) - Boolean(a.isPicture));
    const mark = h("span", { className: "said-here" });
    const details = h("details", {}, h("summary", {}, name, mark), fields.map((f) => f.element));
    fields.forEach((f) => { f.panel = { details, mark, fields }; });
    return details;
  }

  shapes() {
    const select = h("select", { "aria-label": "Shape", onchange: () => { this.shape(Number(select.value)); select.value = ""; } },
      h("option", { value: "" }, "Shape"), SHAPES.map(([name, ratio]) => h("option", { value: ratio }, name)));
    return h("div", { id: "shape-here", className: "shape" }, select);
  }

  // As many pixels as the model draws best, in another shape.
  shape(ratio) {
    const { width = 512, height = 512 } = this.model?.size ?? {}, step = width < 256 ? 16 : 64, pixels = width * height;
    const near = (side) => Math.max(step, Math.round(side / step) * step);
    this.fields.get("width")?.set(ratio === 1 ? undefined : near(Math.sqrt(pixels * ratio)));
    this.fields.get("height")?.set(ratio === 1 ? undefined : near(Math.sqrt(pixels / ratio)));
    this.changed();
  }

  size() {
    const said = (path) => this.fields.get(path)?.get() ?? this.model?.size?.[path] ?? 512;
    return { width: said("width"), height: said("height") };
  }

  // {request, images} as a job takes them.
  values() {
    const request = {}, images = {};
    for (const f of this.fields.values()) {
      const value = f.element.hidden ? undefined : f.get();
      if (value === undefined) continue;
      if (f.isPicture) images[f.path] = value;
      else request[f.path] = value;
      Object.assign(images, f.images?.());
    }
    return { request, images };
  }

  // In place of all that is there.
  set({ request = {}, images = {} }) {
    const said = {};
    for (const [name, value] of Object.entries(request)) {
      const isTable = !this.fields.has(name) && value !== null && typeof value === "object" && !Array.isArray(value);
      if (isTable) for (const [inner, v] of Object.entries(value)) said[`${name}.${inner}`] = v;
      else said[name] = value;
    }
    for (const f of this.fields.values()) {
      f.set((f.isPicture ? images[f.path] : said[f.path]) ?? undefined, images);
      if (f.panel && f.get() !== undefined) f.panel.details.open = true;
    }
    this.changed();
  }

  // What the model draws best stands in the fields that are empty; fields of other models' inputs are away.
  usual(model) {
    this.model = model ?? null;
    const defaults = { ...model?.defaults, ...model?.size };
    for (const key of CLASSES) $(`classes-${key}`).replaceChildren(...this.desk.classes(key).map((label, n) => h("option", { value: String(n), label })));
    for (const f of this.fields.values()) {
      f.usual?.(defaults[f.path]);
      f.offer?.();
      f.resized?.();
    }
    this.arrange();
  }

  changed() {
    this.arrange();
    try { localStorage.setItem(KEPT, JSON.stringify(this.values())); } catch { /* storage is off */ }
    for (const f of this.fields.values()) f.resized?.();
    $("form").dispatchEvent(new CustomEvent("change-of-form"));
  }

  arrange() {
    for (const f of this.fields.values()) {
      const input = OF_MODELS.includes(f.path) ? f.path : f.path.startsWith("inputs.") && f.path.slice("inputs.".length);
      const isForeign = Boolean(input) && !(this.model?.inputs ?? OF_MODELS).includes(input);
      const needed = f.needs && this.fields.get(f.needs);
      f.element.hidden = isForeign || Boolean(f.isAway) || Boolean(needed && needed.get() === undefined);
    }
    for (const panel of new Set([...this.fields.values()].map((f) => f.panel).filter(Boolean))) {
      const seen = panel.fields.filter((f) => !f.element.hidden), count = seen.filter((f) => f.get() !== undefined).length;
      panel.details.hidden = !seen.length;
      panel.mark.textContent = count ? String(count) : "";
      panel.mark.setAttribute("aria-label", count ? `${count} set` : "");
    }
  }

  restore() {
    try { this.set(JSON.parse(localStorage.getItem(KEPT) ?? "{}")); } catch { this.set({}); }
  }

  // Settings that one value can be typed for, for the axes of a grid.
  axes() {
    return [...this.fields.values()].filter((f) => f.isOneValue && !f.element.hidden).map((f) => [f.path, words(f.path)]);
  }
}

// [path, schema] of every setting; tables by their entries.
function* flat(schema) {
  for (const [name, described] of Object.entries(schema.properties)) {
    if (described.type !== "object" || !described.properties) yield [name, described];
    else for (const [inner, one] of Object.entries(described.properties)) yield [`${name}.${inner}`, one];
  }
}
