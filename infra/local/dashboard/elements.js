// Making elements. Texts are set as texts, never as HTML: ids and lines are other people's.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Set the text, unless it is that already: what did not change is not read out again. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
