// Building elements. Text goes in as text nodes and attributes by setAttribute; nothing in this page
// ever parses a string as HTML, because span names and attributes are written by strangers.

/** An element. props: `class`, `on: {event: listener}`, `vars: {"--css-variable": value}`, attributes. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "vars") {
      for (const [variable, setting] of Object.entries(value)) element.style.setProperty(variable, setting);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replace what `parent` holds. */
export function show(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child !== null));
}

/** A coloured dot and a service's name. */
export function serviceLabel(service, hue) {
  return h("span", { class: "service", vars: { "--hue": hue } }, h("i", { class: "dot" }), service);
}

/** A message in place of content: why there is nothing, and what one can do. */
export function notice(title, detail, ...actions) {
  return h("section", { class: "notice" }, h("h2", {}, title), h("p", {}, detail), ...actions);
}
