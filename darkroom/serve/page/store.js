// What the server knows, as this window sees it: jobs, queue, pictures, models. Windows agree, since all hear the same events.

import * as api from "./api.js";

export const state = {
  jobs: new Map(), // by id: those that wait, run or have failed
  previews: new Map(), // by the job's id: data URLs by the number of the picture
  pictures: [], // newest first
  hasMore: false,
  paused: false,
  models: [],
  online: null, // null before the first answer
};

const bus = new EventTarget();
export const on = (kinds, hear) => kinds.split(" ").forEach((kind) => bus.addEventListener(kind, (event) => hear(event.detail)));
const tell = (kind, detail) => bus.dispatchEvent(new CustomEvent(kind, { detail }));

const FIRST_WAIT = 500, LONGEST_WAIT = 8000;
const SHOWN_FAILURES = 24 * 3600; // seconds
let wait = FIRST_WAIT, stream = null;

export function connect() {
  stream?.close();
  stream = new EventSource("/v1/events");
  stream.addEventListener("open", async () => {
    wait = FIRST_WAIT;
    try {
      await refresh();
      online(true);
      await resend();
    } catch { again(); }
  });
  stream.addEventListener("error", again);
  stream.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    heard.add(job.id);
    if (held) held.push(job); else hearJob(job);
  });
  stream.addEventListener("queue", (event) => { state.paused = JSON.parse(event.data).paused; tell("queue"); });
  stream.addEventListener("progress", (event) => {
    const { id, step, steps } = JSON.parse(event.data);
    const job = state.jobs.get(id);
    if (job) { Object.assign(job, { step, steps }); tell("progress", job); }
  });
  stream.addEventListener("preview", (event) => {
    const { id, number, image } = JSON.parse(event.data);
    if (!state.jobs.has(id)) return;
    if (!state.previews.has(id)) state.previews.set(id, new Map());
    state.previews.get(id).set(number, image);
    tell("preview", { id, number, image });
  });
}

// A new stream rather than the browser's own retries: those end for good at some answers.
let coming = null;
function again() {
  stream.close();
  online(false);
  clearTimeout(coming);
  coming = setTimeout(connect, wait);
  wait = Math.min(LONGEST_WAIT, wait * 1.6);
}

function online(is) {
  if (state.online === is) return;
  state.online = is;
  tell("connection", is);
}

// Replies may be older than events that came before them: events are held back until a refresh is done, and the reply to
// a submission counts only where no event has told of that job.
let held = null;
const heard = new Set();

async function refresh() {
  held = [];
  try { await load(); } finally {
    const late = held;
    held = null;
    late.forEach(hearJob);
  }
}

async function load() {
  const [jobs, queue, pictures, models] = await Promise.all([
    api.jobs("queued,running,failed"), api.queue(), api.pictures(), api.models(),
  ]);
  const hidden = dismissed(), young = Date.now() / 1000 - SHOWN_FAILURES;
  state.jobs = new Map(jobs.filter((j) => j.state !== "failed" || (j.created > young && !hidden.has(j.id))).map((j) => [j.id, j]));
  for (const id of state.previews.keys()) if (!state.jobs.has(id)) state.previews.delete(id);
  state.paused = queue.paused;
  showModels(models);
  const known = new Set(pictures.map((p) => p.id)), oldest = pictures.at(-1)?.id ?? "";
  state.hasMore = state.hasMore || pictures.length === 60;
  state.pictures = [...pictures, ...state.pictures.filter((p) => !known.has(p.id) && p.id < oldest)];
  tell("queue"); tell("pictures");
}

function hearJob(job) {
  const before = state.jobs.get(job.id);
  if (job.state === "done" || job.state === "cancelled" || (job.state === "failed" && dismissed().has(job.id))) {
    state.jobs.delete(job.id);
    state.previews.delete(job.id);
  } else state.jobs.set(job.id, job);
  addPictures(job.pictures);
  tell("queue");
  tell("job", job);
  if (job.state === "running" && before?.state !== "running" && !modelOf(job.model)?.defaults) loadModels().catch(() => {});
}

function addPictures(found) {
  const known = new Set(state.pictures.map((p) => p.id));
  const fresh = found.filter((p) => !known.has(p.id));
  if (!fresh.length) return;
  state.pictures = [...fresh, ...state.pictures].sort((a, b) => (a.id < b.id ? 1 : -1));
  tell("pictures");
}

// What a model draws best is known once it is loaded.
let looking = null;
const loadModels = async () => showModels(await api.models());
function showModels(models) {
  state.models = models;
  tell("models");
  clearTimeout(looking);
  if (models.some((m) => m.state === "loading")) looking = setTimeout(() => loadModels().catch(() => {}), 1000);
}
export const modelOf = (id) => state.models.find((m) => m.id === id);

export async function loadOlder() {
  const found = await api.pictures(state.pictures.at(-1)?.id);
  state.hasMore = found.length === 60;
  addPictures(found);
  tell("pictures");
}

export const running = () => [...state.jobs.values()].filter((j) => j.state === "running").sort((a, b) => a.started - b.started);
export const failed = () => [...state.jobs.values()].filter((j) => j.state === "failed").sort((a, b) => b.created - a.created);
export const waiting = () => [...state.jobs.values()].filter((j) => j.state === "queued").sort((a, b) => (a.position ?? 1e9) - (b.position ?? 1e9));

// What could not be sent is sent when the server is back, under the same key: nothing is drawn twice.
const unsent = [];
export const unsentCount = () => unsent.length;
export async function submit(job) {
  const key = api.newKey();
  try {
    const taken = await api.submit(job, key);
    if (!heard.has(taken.id)) hearJob(taken);
    return taken;
  } catch (error) {
    if (!(error instanceof api.Gone)) throw error;
    unsent.push({ job, key });
    again();
    tell("connection", false);
    return null;
  }
}
async function resend() {
  while (unsent.length) {
    const { job, key } = unsent[0];
    try {
      const taken = await api.submit(job, key);
      if (!heard.has(taken.id)) hearJob(taken);
    } catch (error) {
      if (error instanceof api.Gone) throw error;
      tell("refused", error);
    }
    unsent.shift();
  }
}

const DISMISSED = "darkroom-dismissed";
function dismissed() {
  try { return new Set(JSON.parse(localStorage.getItem(DISMISSED) ?? "[]")); } catch { return new Set(); }
}
export function dismiss(id) {
  try { localStorage.setItem(DISMISSED, JSON.stringify([...dismissed(), id].slice(-500))); } catch { /* storage is off */ }
  state.jobs.delete(id);
  tell("queue");
}
