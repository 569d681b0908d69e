// Elements are made here and nowhere from text: what comes from photos, classes or the server is
// set as text and as attributes, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; children that are no elements become text. */
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

/** Children in place of those there are, only where they differ: what has the focus keeps it. */
export function setChildren(parent, children) {
  children.forEach((child, place) => {
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

/** A list of class names to choose from, the choice kept where it is still there. */
export function setOptions(select, names, first = null) {
  const chosen = select.value;
  const wanted = first === null ? names : [first, ...names];
  const there = [...select.options].map((option) => option.text);
  if (there.join("\n") === wanted.join("\n")) return;
  select.replaceChildren(...wanted.map((name, place) =>
    make("option", { value: first !== null && place === 0 ? "" : name }, name)));
  if (names.includes(chosen)) select.value = chosen;
}

export const counted = (number, noun, plural = `${noun}s`) =>
  `${number} ${number === 1 ? noun : plural}`;

/** As the command line prints it: never 100 % of what is less. */
export const percent = (share) =>
  share >= 0.995 && share < 1 ? `${Math.min(99.9, share * 100).toFixed(1)} %` : `${Math.round(share * 100)} %`;

export function toast(text, seconds = 6) {
  const element = make("div", { class: "toast" }, text);
  byId("toasts").append(element);
  while (byId("toasts").children.length > 4) byId("toasts").firstElementChild.remove();
  setTimeout(() => element.remove(), seconds * 1000);
}

/** A dialog built by `fill(close)`; resolves with what `close` was given, or null. */
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

/** A form for `ask`: a title, contents and two buttons. */
export function form(title, contents, action, close, value, danger = false) {
  return make("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); close(value()); } },
    make("h3", {}, title), ...contents,
    make("div", { class: "row" },
      make("button", { type: "button", onclick: () => close() }, "Cancel"),
      make("button", { class: danger ? "danger" : "primary" }, action)));
}
