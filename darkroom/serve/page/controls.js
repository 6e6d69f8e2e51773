// Control networks: each by its name, with its picture, how much it counts, and what makes a hint of the picture.

import { h, words } from "./dom.js";
import { row } from "./fields.js";
import { pictureField } from "./picture.js";

export function controlsField(path, schema, desk) {
  let units = []; // {said, picture}: what a request says of one, and the field of its picture
  const list = h("ol", { className: "boxes", "aria-label": words(path) });
  const add = h("button", { type: "button", className: "quiet", onclick: () => { put({ model: names()[0] ?? "", weight: 1 }); show(); list.lastChild.querySelector("select").focus(); desk.changed(); } }, "Add a control");
  const element = row(path, schema, h("div", { className: "layout" }, list, add));
  element.querySelector("label").removeAttribute("for");
  const names = () => (desk.names.controls ?? []).map((name) => (typeof name === "string" ? name : name.id));

  function put({ image, ...said }, upload) {
    const picture = pictureField(`${path}.image`, { description: "" }, desk);
    picture.set(upload);
    units.push({ said, picture });
  }
  function show() {
    list.replaceChildren(...units.map((unit, i) => {
      const { said, picture } = unit, nth = `of control ${i + 1}`;
      const choice = (name, values, none) => {
        const all = [...new Set([...values, said[name]].filter(Boolean))];
        const select = h("select", { "aria-label": `${words(name)} ${nth}`, onchange: () => { said[name] = select.value || undefined; desk.changed(); } },
          none && h("option", { value: "" }, none), all.map((value) => h("option", { value }, value)));
        select.value = said[name] ?? "";
        return select;
      };
      const weight = h("input", { type: "number", step: 0.05, value: said.weight ?? 1, "aria-label": `Weight ${nth}`, oninput: () => { said.weight = Number(weight.value); desk.changed(); } });
      const remove = h("button", { type: "button", className: "quiet", "aria-label": `Remove control ${i + 1}`, onclick: () => { units.splice(i, 1); show(); desk.changed(); } }, "✕");
      return h("li", {}, choice("model", names()), remove, h("span", { className: "pair" }, choice("preprocessor", desk.names.preprocessors ?? [], "the picture is the hint"), weight), picture.element);
    }));
  }
  show();
  return {
    path, element,
    get isAway() { return !names().length && !units.length; },
    offer: show,
    get: () => (units.length ? units.map(({ said }) => said) : undefined),
    // The uploads, as a job names them.
    images: () => Object.fromEntries(units.map(({ picture }, i) => [`${path}.${i}.image`, picture.get()]).filter(([, id]) => id)),
    set(value, images = {}) {
      units = [];
      (value ?? []).forEach((unit, i) => put(unit, images[`${path}.${i}.image`]));
      show();
    },
  };
}
