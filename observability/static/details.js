// What a span says about itself, shown under its row.

import { h } from "./dom.js";
import { anyValue, duration, moment } from "./format.js";

const STATUS = ["unset", "ok", "error"];

/** The panel of one span. */
export function spanDetails(span, trace) {
  const { raw } = span;
  const status = STATUS[raw.status?.code ?? 0] ?? "unknown";
  const offset = Number(span.start - trace.start);
  const events = [...(raw.events ?? [])].sort((a, b) => (time(a) < time(b) ? -1 : 1));
  return h("div", { class: "details" },
    raw.status?.message ? h("p", { class: "status" }, raw.status.message) : null,
    h("p", { class: "quiet" },
      [`${span.kind || "unspecified"} span`, `status ${status}`, `${duration(Number(span.end - span.start))} from +${duration(offset)}`, moment(span.start)].join(" · ")),
    section("Attributes", table(raw.attributes)),
    events.length ? section(`Events (${events.length})`, events.map((event) => eventBlock(event, span))) : null,
    raw.links?.length ? section(`Links (${raw.links.length})`, raw.links.map(linkBlock)) : null,
    fold("Resource", table(span.resource?.attributes)),
    fold("Span", table([
      ...text("span id", span.id), ...text("parent span id", span.parentId), ...text("trace id", trace.id),
      ...text("scope", [span.scope?.name, span.scope?.version].filter(Boolean).join(" ")),
      ...text("trace state", raw.traceState), ...text("dropped attributes", raw.droppedAttributesCount),
      ...text("dropped events", raw.droppedEventsCount), ...text("dropped links", raw.droppedLinksCount),
    ])),
    h("p", {}, h("a", { href: `#${span.id}` }, "Link to this span")));
}

const time = (event) => BigInt(event.timeUnixNano ?? 0);
const text = (key, value) => (value ? [{ key, value: { stringValue: String(value) } }] : []);
const section = (title, ...content) => h("section", {}, h("h3", {}, title), ...content);
const fold = (title, ...content) => h("details", {}, h("summary", {}, title), ...content);

function table(attributes) {
  if (!attributes?.length) return h("p", { class: "quiet" }, "none");
  const sorted = [...attributes].sort((a, b) => (a.key < b.key ? -1 : 1));
  return h("table", {}, h("tbody", {}, sorted.map(({ key, value }) =>
    h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, anyValue(value))))));
}

function eventBlock(event, span) {
  return h("div", { class: "event" },
    h("p", {}, h("span", { class: "quiet" }, `+${duration(Number(time(event) - span.start))} `), h("strong", {}, event.name ?? "(no name)")),
    event.attributes?.length ? table(event.attributes) : null);
}

function linkBlock(link) {
  const target = `/trace/${encodeURIComponent(link.traceId ?? "")}#${encodeURIComponent(link.spanId ?? "")}`;
  return h("div", { class: "event" },
    h("p", {}, h("a", { href: target }, `trace ${link.traceId}, span ${link.spanId}`)),
    link.attributes?.length ? table(link.attributes) : null);
}
