// Completion in prompts: `<` offers LoRAs, the beginning of a word offers embeddings.

import { h } from "./dom.js";

const MOST = 8;
let count = 0;
const nameOf = (entry) => (typeof entry === "string" ? entry : entry.id ?? entry.name);

// What the text before the caret may go on to: [where it begins, texts to put there].
export function offers(before, names) {
  const lora = before.match(/<(?:lora:)?([^<>:]*)$/);
  if (lora) {
    const typed = lora[1].toLowerCase();
    return [lora.index, (names.loras ?? []).map(nameOf).filter((n) => n.toLowerCase().includes(typed)).map((n) => `<lora:${n}:1>`)];
  }
  const word = before.match(/[\p{L}\p{N}_-]{2,}$/u);
  if (!word) return [0, []];
  const typed = word[0].toLowerCase();
  return [word.index, (names.embeddings ?? []).map(nameOf).filter((n) => n.toLowerCase().startsWith(typed) && n.toLowerCase() !== typed)];
}

export function complete(area, desk) {
  const list = h("ul", { className: "offers", role: "listbox", id: `offers-${count++}`, hidden: true, "aria-label": "Completions" });
  area.setAttribute("role", "combobox");
  area.setAttribute("aria-autocomplete", "list");
  area.setAttribute("aria-controls", list.id);
  area.setAttribute("aria-expanded", "false");
  area.after(list);
  let begin = 0, found = [], at = 0;

  function hide() { list.hidden = true; area.setAttribute("aria-expanded", "false"); area.removeAttribute("aria-activedescendant"); }
  function mark() {
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", i === at));
    area.setAttribute("aria-activedescendant", list.children[at]?.id ?? "");
  }
  function show() {
    const caret = area.selectionStart;
    [begin, found] = offers(area.value.slice(0, caret), desk.names);
    found = found.slice(0, MOST);
    if (!found.length || caret !== area.selectionEnd) return hide();
    at = 0;
    list.replaceChildren(...found.map((text, i) => h("li", {
      role: "option", id: `${list.id}-${i}`, onpointerdown: (event) => { event.preventDefault(); at = i; take(); },
    }, text)));
    list.hidden = false;
    area.setAttribute("aria-expanded", "true");
    mark();
  }
  function take() {
    area.setRangeText(found[at], begin, area.selectionStart, "end");
    hide();
    desk.changed();
  }
  area.addEventListener("input", show);
  area.addEventListener("blur", hide);
  area.addEventListener("keydown", (event) => {
    if (list.hidden || event.ctrlKey || event.metaKey) return;
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { at = (at + by + found.length) % found.length; mark(); } else if (event.key === "Enter" || event.key === "Tab") take();
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
