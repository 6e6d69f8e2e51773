// The tray: pictures that grow, what waits behind them in an order that can be changed, and what went wrong.

import * as api from "./api.js";
import { $, h, note } from "./dom.js";
import { dismiss, failed, on, running, state, submit, waiting } from "./store.js";

const cards = new Map(); // by the job's id, so that a picture grows in place
let takeSettings = () => {};

export function start(take) {
  takeSettings = take;
  on("queue", show);
  on("progress", (job) => cards.get(job.id)?.progress(job));
  on("preview", ({ id, number, image }) => cards.get(id)?.preview(number, image));
  $("pause").addEventListener("click", () => tried(() => api.pause(!state.paused)));
  $("queue").addEventListener("keydown", moveByKey);
}

async function tried(work) {
  try { return await work(); } catch (error) { note(sentence(error.message)); return null; }
}
const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
export const title = (job) => job.request.prompt || job.model;

function show() {
  const now = running(), next = waiting(), wrong = failed();
  $("tray").hidden = !(now.length + next.length + wrong.length) && !state.paused;
  $("waiting").textContent = state.paused ? "Paused" : next.length ? `${next.length} waiting` : "";
  $("pause").textContent = state.paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", state.paused);
  for (const [id, card] of cards) if (!state.jobs.has(id) || state.jobs.get(id).state === "queued") { card.element.remove(); cards.delete(id); }
  for (const job of [...now, ...wrong]) {
    if (cards.has(job.id) && cards.get(job.id).state !== job.state) { cards.get(job.id).element.remove(); cards.delete(job.id); }
    if (!cards.has(job.id)) {
      cards.set(job.id, job.state === "failed" ? failure(job) : growing(job));
      $("running").append(cards.get(job.id).element);
    }
    cards.get(job.id).progress(job);
  }
  const focused = document.activeElement?.closest?.("#queue li")?.dataset.id, button = document.activeElement?.dataset?.act;
  $("queue").replaceChildren(...next.map((job, i) => row(job, i, next)));
  if (focused) {
    const found = $("queue").querySelector(`[data-id="${focused}"]`);
    (found?.querySelector(`[data-act="${button}"]:not(:disabled)`) ?? found)?.focus();
  }
}

function growing(job) {
  const images = new Map(), frame = h("div", { className: "pictures" }); // one of each picture under way
  const line = h("i"), count = h("span", { className: "steps" }, "Starting");
  const meter = h("div", { className: "meter", role: "progressbar", "aria-label": `Progress of ${title(job)}`, "aria-valuemin": 0 }, line);
  const stop = h("button", { type: "button", className: "quiet", "data-act": "cancel", onclick: () => cancel(job) }, "Cancel");
  const element = h("article", { className: "growing", "data-id": job.id, "aria-label": title(job) },
    h("div", { className: "frame" }, frame, meter), h("p", { className: "said", title: title(job) }, title(job)), h("div", { className: "bar" }, count, stop));
  const { width = 1, height = 1 } = job.request;
  element.style.setProperty("--shape", `${width} / ${height}`);
  const card = {
    state: job.state, element,
    preview(number, url) {
      if (!images.has(number)) images.set(number, frame.appendChild(h("img", { alt: "" })));
      images.get(number).src = url;
      this.arrange();
    },
    arrange() { frame.style.setProperty("--columns", Math.ceil(Math.sqrt(images.size))); },
    progress({ step, steps, count: of, pictures }) {
      for (const { id } of of > 1 ? pictures : []) { // what is done stands in the gallery
        images.get(Number(id.slice(-4)))?.remove();
        if (images.delete(Number(id.slice(-4)))) this.arrange();
      }
      if (!steps) return;
      line.style.width = `${(100 * step) / steps}%`;
      meter.setAttribute("aria-valuemax", steps);
      meter.setAttribute("aria-valuenow", step);
      count.textContent = `Step ${step} of ${steps}` + (of > 1 ? ` · ${pictures.length}/${of}` : "");
    },
  };
  for (const [number, url] of state.previews.get(job.id) ?? []) card.preview(number, url);
  return card;
}

function failure(job) {
  const { model, request, images, count } = job;
  const retry = () => tried(async () => { await submit({ model, request, images, count }); dismiss(job.id); });
  const element = h("article", { className: "failure", "data-id": job.id },
    h("p", { className: "said" }, title(job)), h("p", { role: "alert" }, sentence(job.error.message)),
    h("div", { className: "bar" },
      h("button", { type: "button", onclick: retry }, "Try again"),
      h("button", { type: "button", className: "quiet", onclick: () => takeSettings(job) }, "Change"),
      h("button", { type: "button", className: "quiet", "data-act": "dismiss", onclick: () => dismiss(job.id) }, "Dismiss")));
  return { state: job.state, element, progress() {} };
}

async function cancel(job) {
  const done = await tried(() => api.cancel(job.id));
  const { model, request, images, count } = job;
  if (done?.state === "cancelled" || done?.state === "running") note("Cancelled.", "Draw it after all", () => tried(() => submit({ model, request, images, count })));
}

function row(job, index, order) {
  const name = title(job);
  const act = (key, label, sign, work, off) =>
    h("button", { type: "button", className: "quiet", "data-act": key, "aria-label": `${label}: ${name}`, title: label, disabled: off, onclick: work }, sign);
  return h("li", {
    tabIndex: 0, draggable: true, "data-id": job.id,
    ondragstart: (event) => event.dataTransfer.setData("text/plain", job.id),
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => { event.preventDefault(); moveBefore(event.dataTransfer.getData("text/plain"), job.id); },
  },
    h("span", { className: "place" }, String(index + 1)), h("span", { className: "said", title: name }, name),
    job.count > 1 && h("span", { className: "times" }, `× ${job.count}`),
    act("up", "Earlier", "↑", () => shift(order, index, -1), index === 0),
    act("down", "Later", "↓", () => shift(order, index, 1), index === order.length - 1),
    act("cancel", "Cancel", "✕", () => cancel(job)));
}

const moveBefore = (id, before) => id !== before && tried(() => api.move(id, before));
function shift(order, index, by) {
  const to = index + by;
  if (to < 0 || to >= order.length) return;
  moveBefore(order[index].id, (by < 0 ? order[to] : order[to + 1])?.id ?? null);
}

function moveByKey(event) {
  const id = event.target.closest("li")?.dataset.id, order = waiting(), index = order.findIndex((j) => j.id === id);
  if (index < 0) return;
  const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (by && event.altKey) shift(order, index, by);
  else if (by) $("queue").children[index + by]?.focus();
  else if (event.key === "Delete" || event.key === "Backspace") cancel(order[index]);
  else return;
  event.preventDefault();
}
