// The page: form, tray and gallery put together.

import * as api from "./api.js";
import { $, dialog, h, isTyping, note } from "./dom.js";
import { Form } from "./form.js";
import * as gallery from "./gallery.js";
import { openGrid } from "./grid.js";
import { extended } from "./paint.js";
import * as store from "./store.js";
import * as tray from "./tray.js";

const names = {};
let form = null;
const MODEL = "darkroom-model";

const KEYS = [
  ["Ctrl ↵", "Draw"], ["/", "To the prompt"], ["G", "To the pictures"], ["T", "To the tray"], ["P", "Pause, or go on"], ["?", "These keys"],
  ["Alt ↑ ↓", "In the tray: earlier, later"], ["Del", "In the tray: cancel"], ["← → ↑ ↓", "In the pictures: from one to the next"], ["↵", "Look at a picture; there: use its settings"],
  ["C", "Put a picture beside others"], ["Esc", "Close"],
];

function connection(isOnline) {
  const text = isOnline ? "" : store.unsentCount() ? "The server does not answer. What you asked for is sent when it is back." : "The server does not answer. Trying again …";
  if (isOnline && $("connection").textContent) note("The server is back.");
  $("connection").textContent = text;
  document.body.classList.toggle("offline", !isOnline);
}

function showModels() {
  const select = $("model"), before = select.value || localStorage.getItem(MODEL);
  select.replaceChildren(...store.state.models.map((m) => h("option", { value: m.id }, m.state === "loading" ? `${m.id} (loading)` : m.id)));
  if (store.state.models.some((m) => m.id === before)) select.value = before;
  form?.usual(store.modelOf(select.value));
}

async function draw(event) {
  event?.preventDefault();
  $("refused").hidden = true;
  const job = { model: $("model").value || undefined, count: Number($("count").value) || 1, ...form.values() };
  $("draw").disabled = true;
  try {
    await store.submit(job);
    if (matchMedia("(max-width: 820px)").matches) $("tray").scrollIntoView({ block: "start" }); // it lies below the form
  } catch (error) { refuse(error); } finally { $("draw").disabled = false; }
}

function refuse(error) {
  $("refused").textContent = error.message[0].toUpperCase() + error.message.slice(1);
  $("refused").hidden = false;
}

// Settings of a picture or a job in the form; what was there comes back on request.
function take({ model, request, images }) {
  const before = form.values();
  form.set({ request, images });
  if (store.modelOf(model)) { $("model").value = model; form.usual(store.modelOf(model)); }
  note("Settings taken over.", "Back to mine", () => form.set(before));
  form.fields.get("prompt")?.element.querySelector("textarea").focus();
}

const blobOf = async (picture) => (await fetch(picture.url)).blob();
async function startFrom(picture) {
  if (!(await form.fields.get("image").take(await blobOf(picture)))) return false;
  form.fields.get("mask")?.set();
  if (!form.fields.get("prompt").get()) form.fields.get("prompt").set(picture.request.prompt);
  form.fields.get("image").panel.details.open = true;
  form.changed();
  form.fields.get("image").element.scrollIntoView({ block: "nearest" });
  return true;
}

function extendDialog(picture) {
  const sides = ["Left", "Top", "Right", "Bottom"].map((name) => [name, h("input", { type: "number", min: 0, step: 8, value: 0, "aria-label": `Pixels to add: ${name}` })]);
  const go = h("button", { type: "submit", className: "primary" }, "Prepare");
  const box = dialog("Extend the picture", h("h2", {}, "Extend the picture"), h("p", { className: "quiet" }, "Pixels to add at each side; they are drawn with the next request."),
    h("form", {
      noValidate: true, // any number of pixels will do; the steps are for the arrows
      onsubmit: async (event) => {
        event.preventDefault();
        const added = sides.map(([, input]) => Math.max(0, Math.round(Number(input.value))));
        if (!added.some(Boolean)) return sides[0][1].focus();
        go.disabled = true;
        const [canvas, mask] = await extended(picture, added);
        form.set({ request: { ...picture.request, width: undefined, height: undefined, seed: -1 }, images: {} });
        const done = (await form.fields.get("image").take(canvas)) && (await form.fields.get("mask").take(mask));
        if (done) {
          form.fields.get("image").panel.details.open = true;
          form.changed();
          box.close();
          note("Ready: press Draw.");
        } else go.disabled = false;
      },
    }, h("div", { className: "sides-of" }, sides.map(([name, input]) => h("label", {}, name, " ", input))), h("div", { className: "acts end" }, go)));
  sides[0][1].select();
}

function showKeys() {
  dialog("Keys", h("h2", {}, "Keys"), h("dl", { className: "keys" }, KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))));
}

function keys(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { if (!document.querySelector("dialog[open]")) draw(event); return; }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
  const act = {
    "/": () => form.fields.get("prompt").element.querySelector("textarea").focus(),
    g: () => ($("pictures").querySelector(".open") ?? $("gallery")).focus(),
    t: () => $("queue").querySelector("li")?.focus(),
    p: () => $("pause").click(),
    "?": showKeys,
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

async function begin() {
  try {
    const [schema, controls] = await Promise.all([api.schema(), api.controls(), ...["samplers", "schedules", "loras", "embeddings"].map(async (kind) => { names[kind] = await api.names(kind); })]);
    Object.assign(names, { controls: controls.data, preprocessors: controls.preprocessors });
    form = new Form(schema, names);
  } catch (error) {
    $("connection").textContent = error instanceof api.Gone ? "The server does not answer. Trying again …" : error.message;
    if (error instanceof api.Gone) setTimeout(begin, 2000);
    return;
  }
  store.on("connection", connection);
  store.on("models", showModels);
  store.on("refused", refuse);
  store.on("job", (job) => {
    if (job.state === "failed") note(`Not drawn: ${job.error.message}`);
    if (job.state === "done") job.remarks.forEach((remark) => note(remark));
  });
  tray.start(take);
  gallery.start({
    use: async (picture) => take({ ...(await api.pictureRequest(picture.id).catch(() => picture)) }),
    start: startFrom,
    paint: async (picture) => { if (await startFrom(picture)) form.fields.get("mask").brush(); },
    extend: extendDialog,
  });
  $("form").addEventListener("submit", draw);
  $("form").addEventListener("change-of-form", () => { $("refused").hidden = true; });
  $("model").addEventListener("change", () => { localStorage.setItem(MODEL, $("model").value); form.usual(store.modelOf($("model").value)); });
  $("grid").addEventListener("click", () => openGrid(form, $("model").value || undefined));
  $("help").addEventListener("click", showKeys);
  document.addEventListener("keydown", keys);
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    if (file) { event.preventDefault(); form.fields.get("image").take(file); }
  });
  store.connect();
}
begin();
