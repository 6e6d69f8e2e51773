// A field that holds a picture: chosen, dropped, pasted or painted, sent to the server at once and kept by its id.

import * as api from "./api.js";
import { h, note, words } from "./dom.js";
import { paintClasses, paintMask } from "./paint.js";
import { row } from "./fields.js";

export async function sized(blob) {
  const bitmap = await createImageBitmap(blob);
  const size = { width: bitmap.width, height: bitmap.height };
  bitmap.close();
  return size;
}

export function pictureField(path, schema, desk) {
  const kind = schema["x-kind"];
  let held = null; // {id, url, width, height}
  const file = h("input", { type: "file", accept: "image/*", className: "hidden", tabIndex: -1, onchange: () => { if (file.files[0]) take(file.files[0]); file.value = ""; } });
  const image = h("img", { alt: "" });
  const choose = h("button", { type: "button", className: "quiet", onclick: () => file.click() }, "Choose…");
  const paint = (kind === "mask" || kind === "classes") && h("button", { type: "button", className: "quiet", "data-act": "paint", onclick: () => brush() }, "Paint…");
  const remove = h("button", { type: "button", className: "quiet", "aria-label": `Remove: ${words(path)}`, onclick: () => { field.set(); desk.changed(); } }, "✕");
  const slot = h("div", {
    className: "slot",
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => { event.preventDefault(); const dropped = event.dataTransfer.files[0]; if (dropped) take(dropped); },
  }, image, file, h("div", { className: "acts" }, choose, paint, remove));
  const element = row(path, schema, slot);
  element.querySelector("label").removeAttribute("for");
  slot.setAttribute("role", "group");
  slot.setAttribute("aria-label", words(path));

  // `blob` in place of what is held; returns whether the server took it.
  async function take(blob) {
    try {
      const { id } = await api.upload(blob);
      const size = await sized(blob).catch(() => ({}));
      put({ id, url: URL.createObjectURL(blob), ...size });
      desk.changed();
      return true;
    } catch (error) {
      note(`${words(path)}: ${error.message}`);
      return false;
    }
  }
  function put(next) {
    if (held?.url.startsWith("blob:")) URL.revokeObjectURL(held.url);
    held = next;
    image.hidden = remove.hidden = !held;
    if (held) image.src = held.url; else image.removeAttribute("src");
    image.alt = held ? `${words(path)}, ${held.width ?? "?"} by ${held.height ?? "?"}` : "";
    slot.classList.toggle("held", Boolean(held));
  }
  async function brush() {
    if (kind === "classes") return paintClasses(desk.size(), held?.url, take);
    const base = desk.field("image")?.held();
    if (!base) return note("A mask is painted over a picture: choose the one to start from first.");
    return paintMask(base, held?.url, take);
  }
  const field = {
    path, element, isPicture: true, take, brush,
    held: () => held,
    get: () => held?.id,
    // An id of an upload, as jobs and pictures name it.
    set(id) {
      if (id === held?.id) return;
      put(id ? { id, url: api.uploadUrl(id) } : null);
      if (id) fetch(api.uploadUrl(id)).then((r) => r.blob()).then(async (blob) => {
        const size = await sized(blob);
        if (held?.id === id) put({ id, url: URL.createObjectURL(blob), ...size });
      }).catch(() => note(`${words(path)} is no longer on the server.`));
    },
  };
  put(null);
  return field;
}
