// Creates elements. Text is never parsed as HTML: ids and output lines are untrusted.

export function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

export const byId = (id) => document.getElementById(id);

/** Set the text if it differs: screen readers announce every change. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
