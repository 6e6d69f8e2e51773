// Painting over a picture: masks (white is drawn anew) and maps of classes, by pointer or by keys alone.

import { dialog, h } from "./dom.js";

const VIOLET = [224, 81, 47, 150]; // of the mask's cover: the accent
const UNDOS = 30;

async function imageOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

function canvasOf(width, height) {
  const canvas = h("canvas", { width, height });
  return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
}

const blobOf = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

// A canvas that is painted on, with brush, eraser, undo and keys. `ink()`: the fill of the brush; `base`: what lies under it.
function easel(name, width, height, base, ink, tools) {
  const [canvas, paper] = canvasOf(width, height);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}: arrow keys move the brush, space paints, brackets change its size, X changes between brush and eraser`);
  const cursor = h("i", { className: "brush" });
  const size = h("input", { type: "range", min: 1, max: Math.ceil(Math.max(width, height) / 2), value: Math.ceil(Math.max(width, height) / 12), "aria-label": "Size of the brush" });
  const erase = h("input", { type: "checkbox" });
  const undos = [];
  let x = width / 2, y = height / 2, down = false, last = null;

  const keep = () => { undos.push(paper.getImageData(0, 0, width, height)); if (undos.length > UNDOS) undos.shift(); };
  function undo() { const before = undos.pop(); if (before) paper.putImageData(before, 0, 0); }
  function dab() {
    paper.globalCompositeOperation = erase.checked ? "destination-out" : "source-over";
    paper.strokeStyle = ink();
    paper.lineWidth = Number(size.value);
    paper.lineCap = paper.lineJoin = "round";
    paper.beginPath();
    paper.moveTo(...(last ?? [x, y]));
    paper.lineTo(x + 0.01, y);
    paper.stroke();
    paper.globalCompositeOperation = "source-over";
    last = [x, y];
  }
  function place() {
    const scale = canvas.clientWidth / width, across = size.value * scale;
    Object.assign(cursor.style, { left: `${x * scale}px`, top: `${y * scale}px`, width: `${across}px`, height: `${across}px` });
    cursor.classList.toggle("erases", erase.checked);
  }
  function follow(event) {
    const box = canvas.getBoundingClientRect();
    x = ((event.clientX - box.left) / box.width) * width;
    y = ((event.clientY - box.top) / box.height) * height;
    place();
  }
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); follow(event); keep(); down = true; last = null; dab(); });
  canvas.addEventListener("pointermove", (event) => { follow(event); if (down) dab(); });
  canvas.addEventListener("pointerup", () => { down = false; });
  canvas.addEventListener("keydown", (event) => {
    const step = Math.max(1, size.value / 4), to = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (to) {
      x = Math.min(width, Math.max(0, x + to[0]));
      y = Math.min(height, Math.max(0, y + to[1]));
      if (event.shiftKey) dab(); else last = null;
    } else if (event.key === " ") { keep(); last = null; dab(); } else if (event.key === "[" || event.key === "]") size.value = Number(size.value) * (event.key === "[" ? 0.8 : 1.25);
    else if (event.key === "x") erase.checked = !erase.checked;
    else if (event.key === "z") undo();
    else return;
    place();
    event.preventDefault();
  });
  for (const control of [size, erase]) control.addEventListener("input", place);
  const board = h("div", { className: "board" }, base, canvas, cursor);
  board.style.setProperty("--shape", `${width} / ${height}`);
  const button = (label, work) => h("button", { type: "button", className: "quiet", onclick: () => { keep(); work(); } }, label);
  const bar = h("div", { className: "acts tools" }, tools, h("label", {}, "Size ", size), h("label", {}, erase, " Erase ", h("kbd", {}, "X")),
    h("button", { type: "button", className: "quiet", onclick: undo }, "Undo ", h("kbd", {}, "Z")),
    button("Clear", () => paper.clearRect(0, 0, width, height)));
  return { canvas, paper, board, bar, place, button };
}

function open(name, made, finish) {
  const done = h("button", { type: "button", className: "primary", "data-act": "done", onclick: async () => { done.disabled = true; if (await finish()) box.close(); else done.disabled = false; } }, "Done");
  const box = dialog(name, h("h2", {}, name), made.board, made.bar, h("div", { className: "acts end" }, done));
  box.classList.add("wide", "painting");
  made.canvas.focus();
  made.place();
}

// A mask over `base` {url}, beginning with the one at `before`; `take(blob)` gets black and white.
export async function paintMask(base, before, take) {
  const under = await imageOf(base.url), width = under.naturalWidth, height = under.naturalHeight;
  under.alt = "";
  const made = easel("What is to be drawn anew", width, height, under, () => `rgb(${VIOLET.slice(0, 3)})`);
  const white = (pixels, from) => { // both directions between black and white, and cover
    for (let i = 0; i < pixels.data.length; i += 4) {
      if (from) { const on = pixels.data[i] >= 128; pixels.data.set(on ? [...VIOLET.slice(0, 3), 255] : [0, 0, 0, 0], i); } else {
        const on = pixels.data[i + 3] >= 128 ? 255 : 0;
        pixels.data.set([on, on, on, 255], i);
      }
    }
    return pixels;
  };
  if (before) {
    made.paper.drawImage(await imageOf(before), 0, 0, width, height);
    made.paper.putImageData(white(made.paper.getImageData(0, 0, width, height), true), 0, 0);
  }
  made.bar.append(made.button("Invert", () => {
    const pixels = made.paper.getImageData(0, 0, width, height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(pixels.data[i + 3] >= 128 ? [0, 0, 0, 0] : [...VIOLET.slice(0, 3), 255], i);
    made.paper.putImageData(pixels, 0, 0);
  }));
  open("What is to be drawn anew", made, async () => {
    const [canvas, paper] = canvasOf(width, height);
    paper.putImageData(white(made.paper.getImageData(0, 0, width, height), false), 0, 0);
    return take(await blobOf(canvas));
  });
}

// Colors that are told apart, by the number of their class; the number goes into the file.
const hue = (number) => `hsl(${(number * 137.5) % 360} ${55 + (number % 3) * 15}% ${42 + (number % 4) * 8}%)`;

// A map of classes of `size` {width, height}; `take(blob)` gets a gray picture whose values are the numbers.
export async function paintClasses(size, before, take) {
  const { width, height } = size;
  const number = h("input", { type: "number", min: 0, max: 255, value: 1, list: "classes-segmentation", "aria-label": "Class", oninput: () => swatch() });
  const mark = h("i", { className: "swatch" });
  const swatch = () => { mark.style.background = hue(Number(number.value)); };
  swatch();
  const made = easel("Classes", width, height, h("div", { className: "ground" }), () => hue(Number(number.value)), h("label", {}, "Class ", number, mark));
  const [probe, dot] = canvasOf(1, 1);
  const colors = Array.from({ length: 256 }, (_, n) => { dot.fillStyle = hue(n); dot.fillRect(0, 0, 1, 1); return [...dot.getImageData(0, 0, 1, 1).data.slice(0, 3)]; });
  probe.remove();
  const numberOf = new Map(colors.map((c, n) => [c.join(), n]).reverse());
  if (before) {
    made.paper.imageSmoothingEnabled = false;
    made.paper.drawImage(await imageOf(before), 0, 0, width, height);
    const pixels = made.paper.getImageData(0, 0, width, height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([...colors[pixels.data[i]], pixels.data[i] ? 255 : 0], i);
    made.paper.putImageData(pixels, 0, 0);
  }
  open("Paint classes", made, async () => {
    const pixels = made.paper.getImageData(0, 0, width, height), { data } = pixels;
    const near = (i) => { // soft edges of the brush go to the nearest color
      const exact = numberOf.get(`${data[i]},${data[i + 1]},${data[i + 2]}`);
      if (exact !== undefined) return exact;
      let best = 0, least = Infinity;
      for (const [n, [r, g, b]] of colors.entries()) {
        const far = (r - data[i]) ** 2 + (g - data[i + 1]) ** 2 + (b - data[i + 2]) ** 2;
        if (far < least) [best, least] = [n, far];
      }
      return best;
    };
    for (let i = 0; i < data.length; i += 4) { const n = data[i + 3] >= 128 ? near(i) : 0; data.set([n, n, n, 255], i); }
    const [canvas, paper] = canvasOf(width, height);
    paper.putImageData(pixels, 0, 0);
    return take(await blobOf(canvas));
  });
}

// `base` {url} with more room around it, filled with its border, and the mask of what is new: two PNG files.
export async function extended(base, [left, top, right, bottom]) {
  const image = await imageOf(base.url), w = image.naturalWidth, e = image.naturalHeight;
  const [canvas, paper] = canvasOf(w + left + right, e + top + bottom), [mask, ink] = canvasOf(canvas.width, canvas.height);
  paper.imageSmoothingEnabled = false;
  for (const [sx, sw, dx, dw] of [[0, 1, 0, left], [0, w, left, w], [w - 1, 1, left + w, right]]) {
    for (const [sy, sh, dy, dh] of [[0, 1, 0, top], [0, e, top, e], [e - 1, 1, top + e, bottom]]) if (dw && dh) paper.drawImage(image, sx, sy, sw, sh, dx, dy, dw, dh);
  }
  ink.fillStyle = "#fff";
  ink.fillRect(0, 0, mask.width, mask.height);
  ink.fillStyle = "#000";
  ink.fillRect(left, top, w, e);
  return [await blobOf(canvas), await blobOf(mask)];
}
