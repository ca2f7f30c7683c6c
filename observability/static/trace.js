// One trace: a waterfall of its spans.

import { getTrace } from "./api.js";
import { spanDetails } from "./details.js";
import { h, serviceLabel, show } from "./dom.js";
import { count, duration, moment, operation } from "./format.js";
import { serviceHues, toTraces, visibleSpans } from "./model.js";

const PAGE_ROWS = 1000; // rows put into the document at once
const TICKS = 4;

/** Fill `main` with the trace. Rejects with ApiError when there is none. */
export async function showTrace(main, traceId, services) {
  const trace = toTraces(await getTrace(traceId))[0];
  const hues = serviceHues(new Set([...services, ...trace.services]));
  document.title = `${trace.root.name} · trace`;
  const state = {
    trace, hues, collapsed: new Set(), open: new Set(), limit: PAGE_ROWS,
    rows: h("div", { class: "rows", role: "treegrid", "aria-label": "Spans" }),
  };
  const target = trace.spans.find((span) => span.id === location.hash.slice(1));
  if (target) {
    state.open.add(target);
    state.limit = Math.max(PAGE_ROWS, trace.spans.length);
  }
  draw(state);
  show(main, heading(trace, hues, () => refold(state)), h("section", { class: "waterfall" }, ruler(trace), state.rows));
  if (target) document.getElementById(target.id)?.scrollIntoView({ block: "center" });
}

function heading(trace, hues, refolded) {
  const depth = Math.max(...trace.spans.map((span) => span.depth)) + 1;
  return h("section", { class: "heading" },
    h("h1", {}, trace.root.name, trace.errors ? h("span", { class: "error" }, count(trace.errors, "error")) : null),
    h("dl", { class: "numbers" },
      fact("Duration", duration(trace.durationNs)),
      fact("Started", moment(trace.start)),
      fact("Spans", String(trace.spans.length)),
      fact("Services", String(trace.services.length)),
      fact("Depth", String(depth)),
      fact("Trace id", h("code", {}, trace.id))),
    h("div", { class: "legend" },
      trace.services.map((service) => serviceLabel(service, hues.get(service))),
      h("button", { on: { click: refolded } }, "Fold / unfold all")));
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function ruler(trace) {
  const marks = Array.from({ length: TICKS + 1 }, (_, index) =>
    h("span", { vars: { "--at": index / TICKS } }, duration(Math.round((trace.durationNs * index) / TICKS))));
  return h("div", { class: "row ruler", "aria-hidden": "true" }, h("div", { class: "name" }, "Service and operation"),
    h("div", { class: "lane" }, marks));
}

function refold(state) {
  const parents = state.trace.spans.filter((span) => span.children.length > 0);
  state.collapsed = new Set(state.collapsed.size > 0 ? [] : parents);
  draw(state);
}

function draw(state) {
  const spans = visibleSpans(state.trace, state.collapsed);
  const rest = spans.length - state.limit;
  const more = () => { state.limit += PAGE_ROWS; draw(state); };
  show(state.rows,
    spans.slice(0, state.limit).map((span) => item(state, span)),
    rest > 0 ? h("button", { class: "more", on: { click: more } }, `Show more (${count(rest, "span")} left)`) : null);
}

function item(state, span) {
  const hue = state.hues.get(span.service);
  const total = state.trace.durationNs || 1;
  const vars = {
    "--hue": hue,
    "--depth": Math.min(span.depth, 30),
    "--from": Number(span.start - state.trace.start) / total,
    "--length": Number(span.end - span.start) / total,
  };
  const box = h("div", { class: state.open.has(span) ? "item open" : "item", id: span.id, vars });
  const toggle = () => {
    if (!state.open.delete(span)) state.open.add(span);
    box.replaceWith(item(state, span));
  };
  box.append(row(state, span, toggle));
  if (state.open.has(span)) box.append(spanDetails(span, state.trace));
  return box;
}

function row(state, span, toggle) {
  const onKey = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle();
  };
  const late = Number(span.start - state.trace.start) / (state.trace.durationNs || 1) > 0.7;
  return h("div", {
    class: span.isError ? "row span failed" : "row span", role: "row", tabindex: 0,
    "aria-expanded": String(state.open.has(span)), on: { click: toggle, keydown: onKey },
  },
    h("div", { class: "name", title: `${span.service}: ${span.name}` },
      foldButton(state, span),
      span.isError ? h("span", { class: "mark", title: "error" }, "!") : null,
      h("b", {}, span.service),
      h("span", { class: "operation" }, operation(span.name)),
      span.kind && span.kind !== "internal" ? h("span", { class: "kind" }, span.kind) : null,
      span.isOrphan ? h("span", { class: "kind", title: `Its parent ${span.parentId} is not in this trace` }, "no parent") : null,
      span.raw.links?.length ? h("span", { class: "kind" }, count(span.raw.links.length, "link")) : null),
    h("div", { class: "lane" },
      h("i", { class: "bit" }),
      h("span", { class: late ? "time before" : "time" }, duration(Number(span.end - span.start)))));
}

function foldButton(state, span) {
  if (span.children.length === 0) return h("span", { class: "fold" });
  const isCollapsed = state.collapsed.has(span);
  const fold = (event) => {
    event.stopPropagation();
    if (!state.collapsed.delete(span)) state.collapsed.add(span);
    draw(state);
  };
  return h("button", { class: "fold", "aria-label": isCollapsed ? "Unfold" : "Fold", on: { click: fold, keydown: (e) => e.stopPropagation() } },
    isCollapsed ? `+${descendants(span)}` : "−");
}

function descendants(span) {
  let total = 0;
  const stack = [...span.children];
  while (stack.length > 0) {
    const child = stack.pop();
    total += 1;
    stack.push(...child.children);
  }
  return total;
}
