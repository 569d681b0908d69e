// Creation of elements. Data of photos, classes and the server is set as text and as attributes,
// never as markup.

export const byId = (id) => document.getElementById(id);

/** Make an element with properties and children; children that are no elements become text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Replace children, but only where they differ, so that the focus is kept. */
export function setChildren(parent, children) {
  children.forEach((child, place) => {
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

/** Set the options of a select to class names, and keep the choice if it is still among them. */
export function setOptions(select, names, first = null) {
  const chosen = select.value;
  const options = first === null ? names : [first, ...names];
  const present = [...select.options].map((option) => option.text);
  if (present.join("\n") === options.join("\n")) return;
  select.replaceChildren(...options.map((name, place) =>
    make("option", { value: first !== null && place === 0 ? "" : name }, name)));
  if (names.includes(chosen)) select.value = chosen;
}

export const counted = (number, noun, plural = `${noun}s`) =>
  `${number} ${number === 1 ? noun : plural}`;

/** Format a share as the command line does: less than 1 is never 100 %. */
export const percent = (share) =>
  share >= 0.995 && share < 1 ? `${Math.min(99.9, share * 100).toFixed(1)} %` : `${Math.round(share * 100)} %`;

export function toast(text, seconds = 6) {
  const element = make("div", { class: "toast" }, text);
  byId("toasts").append(element);
  while (byId("toasts").children.length > 4) byId("toasts").firstElementChild.remove();
  setTimeout(() => element.remove(), seconds * 1000);
}

/** Show a dialog built by `fill(close)`; resolve with the argument of `close`, or null. */
export function ask(fill) {
  const dialog = byId("dialog");
  return new Promise((resolve) => {
    let result = null;
    const close = (value = null) => {
      result = value;
      dialog.close();
    };
    dialog.replaceChildren(fill(close));
    dialog.addEventListener("close", () => {
      dialog.replaceChildren();
      resolve(result);
    }, { once: true });
    dialog.showModal();
  });
}

/** Make a form for `ask`: a title, contents and two buttons. */
export function form(title, contents, action, close, value, danger = false) {
  return make("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); close(value()); } },
    make("h3", {}, title), ...contents,
    make("div", { class: "row" },
      make("button", { type: "button", onclick: () => close() }, "Cancel"),
      make("button", { class: danger ? "danger" : "primary" }, action)));
}
