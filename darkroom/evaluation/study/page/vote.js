"use strict";
// Two sources of pairs with one face: a server that remembers, or all pairs in this file and the answers in this browser.
const $ = (id) => document.getElementById(id);
const study = JSON.parse($("study").textContent);

function kept(key, make) {
  try {
    const found = localStorage.getItem(key);
    if (found !== null) return found;
    const made = make();
    localStorage.setItem(key, made);
    return made;
  } catch { return make(); } // storage is off: a new voter each time
}
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
const rater = kept("darkroom-rater" + (study ? "-" + study.key : ""), random);

const live = {
  async ask(path, said = {}) {
    const reply = await fetch(path, { method: "POST", body: JSON.stringify({ rater, ...said }) });
    const told = await reply.json();
    if (!reply.ok) throw new Error(told.error.message);
    return told;
  },
  next() { return this.ask("next"); },
  again() { return this.ask("again"); },
  answer(pair, answer, seconds) { return this.ask("answer", { id: pair.id, answer, seconds }); },
  picture: (label) => "picture/" + label,
};

const alone = {
  key: "darkroom-votes-" + (study && study.key),
  init() {
    this.votes = JSON.parse(kept(this.key, () => "[]"));
    this.flip = parseInt(rater.slice(0, 2), 16) % 2 === 1; // sides even out over voters, too
    $("save").hidden = false;
  },
  told() {
    const id = this.votes.length;
    if (id >= study.trials.length) return { done: id, of: id };
    const t = study.trials[id];
    return { ...t, ...(this.flip ? { left: t.right, right: t.left } : {}), id, done: id, of: study.trials.length };
  },
  keep() { try { localStorage.setItem(this.key, JSON.stringify(this.votes)); } catch { /* storage is off */ } },
  async next() { return this.told(); },
  async again() { this.votes.pop(); this.keep(); return this.told(); },
  async answer(pair, answer, seconds) {
    const { question, left, right } = pair;
    this.votes.push({ question, left, right, answer, seconds, at: Date.now() / 1000 });
    this.keep();
    return this.told();
  },
  picture: (label) => study.pictures[label],
  save() {
    const text = JSON.stringify({ study: study.key, rater, votes: this.votes });
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: `votes-${rater.slice(0, 8)}.json`,
    });
    link.click();
    URL.revokeObjectURL(link.href);
  },
};
const source = study ? alone : live;

let pair = null, since = 0, busy = false;
const images = [...document.querySelectorAll(".picture img")];

async function loaded(image, url) {
  image.src = url;
  await image.decode();
}

async function show(told) {
  pair = told.ask ? told : null;
  $("bar").hidden = false;
  $("count").textContent = `${told.done} of ${told.of}`;
  $("progress").setAttribute("aria-valuenow", told.done);
  $("progress").setAttribute("aria-valuemax", told.of);
  $("progress").firstElementChild.style.width = `${(100 * told.done) / told.of}%`;
  $("back").disabled = told.done === 0;
  $("pair").hidden = $("tie").hidden = !pair;
  $("end").hidden = Boolean(pair);
  $("ask").textContent = pair ? pair.ask : "Done";
  $("prompt").hidden = !(pair && pair.prompt);
  if (study && !pair) $("thanks").textContent = "That was the last pair. Save the votes and send the file to whoever asked you.";
  if (!pair) { (study ? $("save") : $("back")).focus(); return; }
  $("prompt").textContent = pair.prompt;
  document.body.classList.add("waiting"); // both appear at once: none is favored for being first
  document.querySelectorAll(".chosen").forEach((e) => e.classList.remove("chosen"));
  await Promise.all([loaded(images[0], source.picture(pair.left)), loaded(images[1], source.picture(pair.right))]);
  document.body.classList.remove("waiting");
  since = performance.now();
}

async function during(work) {
  if (busy) return;
  busy = true;
  $("problem").hidden = true;
  try { await show(await work()); } catch (error) {
    document.body.classList.remove("waiting");
    $("problem").textContent = error instanceof TypeError
      ? "The server does not answer. Your votes so far are kept; try again when it is back." : error.message;
    $("problem").hidden = false;
  } finally { busy = false; }
}

function vote(answer) {
  if (!pair || busy) return;
  const chosen = document.querySelector(`.picture[data-answer="${answer}"]`);
  if (chosen) chosen.classList.add("chosen");
  const seconds = Math.round(performance.now() - since) / 1000;
  during(() => source.answer(pair, answer, seconds));
}

function begin() {
  $("intro").hidden = true;
  during(() => source.next());
}

for (const button of document.querySelectorAll("[data-answer]")) button.addEventListener("click", () => vote(button.dataset.answer));
$("back").addEventListener("click", () => during(() => source.again()));
$("save").addEventListener("click", () => source.save());
$("start").addEventListener("click", begin);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!$("intro").hidden) { if (event.key === "Enter" && event.target === document.body) begin(); return; }
  const answer = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", 1: "left", 2: "right", 0: "tie" }[event.key];
  const free = event.target.tagName !== "BUTTON" || event.target.dataset.answer; // space presses a focused button
  if (answer) vote(answer);
  else if (event.key === " " && free && pair) vote("tie");
  else if (event.key === "Backspace") during(() => source.again());
  else return;
  event.preventDefault();
});
if (study) alone.init();
$("start").focus();
