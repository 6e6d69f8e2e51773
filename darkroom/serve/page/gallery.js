// All pictures, newest first, each with what repeats it; looking at one, and at several side by side.

import { $, dialog, h, note, words } from "./dom.js";
import { loadOlder, on, state } from "./store.js";

const tiles = new Map(), chosen = new Set();
let acts = {};

// `acts`: what can be done with a picture: `use(picture)`, `start(picture)`, `paint(picture)`, `extend(picture)`.
export function start(given) {
  acts = given;
  on("pictures", show);
  $("pictures").addEventListener("keydown", walk);
  $("compare").addEventListener("click", sideBySide);
  const more = () => loadOlder().catch((error) => note(error.message));
  $("more").addEventListener("click", more);
  new IntersectionObserver(([seen]) => { if (seen.isIntersecting && state.hasMore) more(); }, { rootMargin: "400px" }).observe($("more"));
}

function show() {
  const now = new Set(state.pictures.map((p) => p.id));
  for (const [id, tile] of tiles) if (!now.has(id)) { tile.remove(); tiles.delete(id); }
  let after = null;
  for (const picture of state.pictures) { // only what is new is put in, so that nothing jumps under the pointer
    if (!tiles.has(picture.id)) tiles.set(picture.id, tile(picture));
    const element = tiles.get(picture.id), place = after ? after.nextSibling : $("pictures").firstChild;
    if (place !== element) $("pictures").insertBefore(element, place);
    after = element;
  }
  $("empty").hidden = state.pictures.length > 0;
  $("more").hidden = !state.hasMore;
}

export const caption = (picture) => picture.request.prompt || "without a prompt";

const SIDE = 512; // pixels: larger pictures stand in the gallery as thumbnails

function tile(picture) {
  const small = Math.max(picture.width, picture.height) <= SIDE;
  const src = small ? picture.url : `/v1/pictures/${picture.id}/thumbnail?side=${SIDE}`;
  const image = h("img", { src, alt: "", loading: "lazy", decoding: "async", width: picture.width, height: picture.height });
  const open = h("button", {
    type: "button", className: "open", "aria-label": `${caption(picture)}, seed ${picture.seed}`, onclick: () => look(picture),
  }, image);
  const choose = h("button", {
    type: "button", className: "choose", "aria-pressed": "false", "aria-label": "Put beside others", title: "Put beside others (C)", onclick: () => toggle(picture),
  }, "◫");
  return h("div", { role: "listitem", className: "tile", "data-id": picture.id }, open, choose);
}

function toggle(picture) {
  if (!chosen.delete(picture.id)) chosen.add(picture.id);
  tiles.get(picture.id)?.querySelector(".choose").setAttribute("aria-pressed", chosen.has(picture.id));
  tiles.get(picture.id)?.classList.toggle("chosen", chosen.has(picture.id));
  $("chosen").textContent = chosen.size ? `${chosen.size} chosen` : "";
  $("compare").hidden = chosen.size < 2;
}

// Arrows go from tile to tile as they lie.
function walk(event) {
  const open = event.target.closest(".tile")?.querySelector(".open");
  if (!open) return;
  const all = [...$("pictures").querySelectorAll(".open")], at = all.indexOf(open);
  const columns = all.findIndex((e, i) => i > 0 && e.getBoundingClientRect().top > all[0].getBoundingClientRect().top + 4);
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -(columns < 1 ? all.length : columns), ArrowDown: columns < 1 ? all.length : columns }[event.key];
  const picture = state.pictures.find((p) => p.id === event.target.closest(".tile").dataset.id);
  if (by) all[at + by]?.focus();
  else if (event.key === "c" && !event.ctrlKey && !event.metaKey) toggle(picture);
  else return;
  event.preventDefault();
}

// What a picture was made with, a setting a line: by path, without those that only say how it is stored.
export function settingsOf(picture) {
  const flat = [];
  for (const [name, value] of Object.entries(picture.request)) {
    if (value === null || value === "" || name === "prompt") continue;
    flat.push([name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  }
  for (const name of Object.keys(picture.images ?? {})) flat.push([name, "a picture"]);
  return [["model", picture.model], ["size", `${picture.width} × ${picture.height}`], ...flat.filter(([n]) => n !== "width" && n !== "height")];
}

function look(first) {
  let at = state.pictures.findIndex((p) => p.id === first.id);
  const stage = h("div", { className: "look" });
  const box = dialog("Picture", stage);
  box.classList.add("wide");
  const act = (key, label, work, primary) => h("button", {
    type: "button", className: primary ? "primary" : "quiet", "data-act": key, onclick: () => { box.close(); work(state.pictures[at]); },
  }, label, " ", h("kbd", {}, key.toUpperCase()));
  function put() {
    const p = state.pictures[at];
    const rows = settingsOf(p).map(([name, value]) => h("div", {}, h("dt", {}, words(name)), h("dd", {}, value)));
    const use = act("u", "Use these settings", acts.use, true);
    stage.replaceChildren(
      h("figure", {}, h("img", { src: p.url, alt: caption(p) })),
      h("div", { className: "about" }, h("p", { className: "prompt" }, caption(p)), h("dl", {}, rows),
        h("div", { className: "acts" }, use,
          act("i", "Start from it", acts.start), act("m", "Paint a mask", acts.paint), act("o", "Extend it", acts.extend),
          act("c", chosen.has(p.id) ? "No longer beside others" : "Put beside others", toggle),
          h("a", { className: "button quiet", href: p.url, download: `${p.id}.png`, "data-act": "d" }, "Save ", h("kbd", {}, "D"))),
        h("p", { className: "quiet" }, h("kbd", {}, "←"), " ", h("kbd", {}, "→"), ` picture ${at + 1} of ${state.pictures.length}`)));
    use.focus();
  }
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && state.pictures[at + by]) { at += by; put(); } else {
      const button = event.key.length === 1 && stage.querySelector(`[data-act="${CSS.escape(event.key.toLowerCase())}"]`);
      if (!button) return;
      button.click();
    }
    event.preventDefault();
  });
  box.addEventListener("close", () => tiles.get(state.pictures[at]?.id)?.querySelector(".open").focus());
  put();
}

function sideBySide() {
  const shown = state.pictures.filter((p) => chosen.has(p.id));
  const tables = shown.map((p) => Object.fromEntries([["prompt", caption(p)], ...settingsOf(p)]));
  const unlike = [...new Set(tables.flatMap(Object.keys))].filter((n) => new Set(tables.map((t) => t[n])).size > 1);
  const figures = shown.map((p, i) => h("figure", {}, h("img", { src: p.url, alt: caption(p) }),
    h("figcaption", {}, h("dl", {}, unlike.map((n) => h("div", {}, h("dt", {}, words(n)), h("dd", {}, tables[i][n] ?? "–")))))));
  const clear = h("button", { type: "button", className: "quiet", onclick: () => { [...shown].forEach(toggle); box.close(); } }, "Choose none");
  const box = dialog("Side by side", h("div", { className: "beside" }, figures),
    h("div", { className: "acts" }, h("span", { className: "quiet" }, unlike.length ? "Only settings that differ are shown." : "All settings are alike."), clear));
  box.classList.add("wide");
}
