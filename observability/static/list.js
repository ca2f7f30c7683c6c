// The list of recent traces.

import { findTraces } from "./api.js";
import { h, notice, serviceLabel, show } from "./dom.js";
import { ago, count, duration, moment, operation } from "./format.js";
import { toTraces } from "./model.js";

const LOOKBACKS = [[900, "15 minutes"], [3600, "hour"], [21600, "6 hours"], [86400, "day"], [604800, "week"]];
const LIMITS = [20, 50, 100, 200];

/** Fill `main` with the filter and the list; the filter's state is in the address. */
export async function showList(main, services, hues) {
  const filter = readFilter();
  const results = h("div", { class: "results" });
  const form = filterForm(filter, services, () => {
    writeFilter(filter);
    refresh();
  });
  async function refresh() {
    form.classList.add("busy");
    try {
      fill(results, toTraces(await findTraces(filter)), filter, hues);
    } catch (error) {
      show(results, notice("That did not work", error.message));
    } finally {
      form.classList.remove("busy");
    }
  }
  show(main, form, results);
  await refresh();
}

function readFilter() {
  const query = new URLSearchParams(location.search);
  return {
    service: query.get("service") ?? "",
    lookbackS: Number(query.get("lookback")) || 3600,
    limit: Number(query.get("limit")) || 50,
    errorsOnly: query.has("errors"),
  };
}

function writeFilter({ service, lookbackS, limit, errorsOnly }) {
  const query = new URLSearchParams({ lookback: lookbackS, limit });
  if (service) query.set("service", service);
  if (errorsOnly) query.set("errors", "1");
  history.replaceState(null, "", `?${query}`);
}

function filterForm(filter, services, changed) {
  const set = (name, convert) => (event) => {
    filter[name] = convert(event.target);
    changed();
  };
  const choices = (options, chosen) =>
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  const all = [["", "All services"], ...services.map((service) => [service, service])];
  const text = (target) => target.value;
  const number = (target) => Number(target.value);
  return h("form", { class: "filter", on: { submit: (event) => { event.preventDefault(); changed(); } } },
    h("label", {}, "Service", h("select", { on: { change: set("service", text) } }, choices(all, filter.service))),
    h("label", {}, "Last", h("select", { on: { change: set("lookbackS", number) } }, choices(LOOKBACKS, filter.lookbackS))),
    h("label", {}, "At most",
      h("select", { on: { change: set("limit", number) } }, choices(LIMITS.map((n) => [n, `${n} traces`]), filter.limit))),
    h("label", { class: "check" },
      h("input", { type: "checkbox", checked: filter.errorsOnly, on: { change: set("errorsOnly", (t) => t.checked) } }),
      "Errors only"),
    h("button", { type: "submit" }, "Refresh"));
}

function fill(results, found, filter, hues) {
  const traces = filter.errorsOnly ? found.filter((trace) => trace.errors > 0) : found;
  if (traces.length === 0) {
    const hint = filter.errorsOnly && found.length > 0
      ? `None of the ${found.length} traces found holds an error.`
      : "Nothing was received in this time for this filter.";
    show(results, notice("No traces", hint));
    return;
  }
  traces.sort((a, b) => (a.start < b.start ? 1 : -1));
  const longest = Math.max(1, ...traces.map((trace) => trace.durationNs));
  const failed = traces.filter((trace) => trace.errors > 0).length;
  show(results,
    h("p", { class: "quiet" }, `${count(traces.length, "trace")}, ${failed} with errors`),
    h("ol", { class: "traces" }, traces.map((trace) => row(trace, longest, hues))));
}

function row(trace, longest, hues) {
  const { root } = trace;
  return h("li", {},
    h("a", { class: trace.errors ? "card failed" : "card", href: `/trace/${encodeURIComponent(trace.id)}` },
      h("span", { class: "what" },
        serviceLabel(root.service, hues.get(root.service) ?? 0),
        h("strong", { title: root.name }, operation(root.name)),
        trace.errors ? h("span", { class: "error" }, count(trace.errors, "error")) : null),
      h("span", { class: "when", title: moment(trace.start) }, ago(trace.start)),
      h("span", { class: "length" },
        h("span", { class: "meter" }, h("i", { vars: { "--share": trace.durationNs / longest } })),
        duration(trace.durationNs)),
      h("span", { class: "facts" },
        h("code", {}, trace.id.slice(0, 8)),
        count(trace.spans.length, "span"),
        h("span", { class: "dots" },
          count(trace.services.length, "service"),
          trace.services.map((service) =>
            h("i", { class: "dot", title: service, vars: { "--hue": hues.get(service) ?? 0 } })))),
      h("time", {}, moment(trace.start))));
}
