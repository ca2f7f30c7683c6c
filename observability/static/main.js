// Which page this is, and the box that goes to a trace.

import { getServices } from "./api.js";
import { notice, show, h } from "./dom.js";
import { showList } from "./list.js";
import { serviceHues } from "./model.js";
import { showTrace } from "./trace.js";

const main = document.getElementById("main");

document.getElementById("go").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = document.getElementById("go-id").value.trim();
  if (id) location.assign(`/trace/${encodeURIComponent(id)}`);
});

try {
  const services = await getServices();
  const path = location.pathname.match(/^\/trace\/([^/]+)$/);
  if (path) await showTrace(main, decodeURIComponent(path[1]), services);
  else await showList(main, services, serviceHues(services));
} catch (error) {
  const again = h("button", { on: { click: () => location.reload() } }, "Try again");
  show(main, notice(error.status === 404 ? "No such trace" : "That did not work", error.message, again));
}
