// Elements from calls: `h("p", {className: "x", onclick: f}, "text", child)`. Texts are always texts.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

// A line that comes and goes; with an action for those who want to undo.
export function note(text, action, act) {
  const line = h("p", {}, text);
  if (action) line.append(h("button", { type: "button", className: "quiet", onclick: () => { act(); line.remove(); } }, action));
  $("notes").append(line);
  setTimeout(() => line.remove(), action ? 9000 : 5000);
}

// A dialog over the page: closes on Esc, on its cross and on a click beside it, and is gone then.
export function dialog(name, ...children) {
  const close = h("button", { type: "button", className: "quiet close", "aria-label": "Close" }, "✕");
  const box = h("dialog", { "aria-label": name }, h("div", { className: "sheet" }, close, children));
  close.addEventListener("click", () => box.close());
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

// Whether a key belongs to the element that has the focus rather than to the page.
export function isTyping(event) {
  const { tagName, type } = event.target;
  return tagName === "TEXTAREA" || tagName === "SELECT" || (tagName === "INPUT" && !["checkbox", "range", "button"].includes(type));
}

const SHORT = ["apg", "pag", "clip"]; // written in capitals
export const words = (path) => {
  const text = path.split(".").at(-1).split("_").map((w) => (SHORT.includes(w) ? w.toUpperCase() : w)).join(" ");
  return text[0].toUpperCase() + text.slice(1);
};
