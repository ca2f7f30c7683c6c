// From `resourceSpans` to traces and trees. Pure: no DOM, no fetch.

export const KINDS = ["", "internal", "server", "client", "producer", "consumer"];
const ERROR = 2;

/** Traces in `resourceSpans`, in order of first appearance. */
export function toTraces(resourceSpans) {
  const byTrace = new Map();
  for (const { resource, scopeSpans } of resourceSpans) {
    const service = serviceName(resource);
    for (const { scope, spans } of scopeSpans ?? []) {
      for (const raw of spans ?? []) {
        const id = raw.traceId ?? "";
        if (!byTrace.has(id)) byTrace.set(id, []);
        byTrace.get(id).push(toSpan(raw, service, resource, scope));
      }
    }
  }
  return [...byTrace].map(([id, spans]) => toTrace(id, spans));
}

function serviceName(resource) {
  const attribute = (resource?.attributes ?? []).find(({ key }) => key === "service.name");
  return attribute?.value?.stringValue || "unknown service";
}

function toSpan(raw, service, resource, scope) {
  const start = BigInt(raw.startTimeUnixNano ?? 0);
  const end = BigInt(raw.endTimeUnixNano ?? 0);
  return {
    raw, service, resource, scope, start,
    end: end < start ? start : end,
    id: raw.spanId ?? "",
    parentId: raw.parentSpanId ?? "",
    name: raw.name || "(no name)",
    kind: KINDS[raw.kind ?? 0] ?? "",
    isError: raw.status?.code === ERROR,
    children: [], depth: 0, isOrphan: false,
  };
}

function toTrace(id, spans) {
  spans.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const roots = link(spans);
  const start = spans[0].start;
  const end = spans.reduce((latest, span) => (span.end > latest ? span.end : latest), start);
  return {
    id, spans, roots, start,
    root: roots.find((span) => !span.isOrphan) ?? roots[0],
    durationNs: Number(end - start),
    services: [...new Set(spans.map((span) => span.service))].sort(),
    errors: spans.filter((span) => span.isError).length,
  };
}

/** Give each span its children; the roots: spans with no parent here, and one of each cycle. */
function link(spans) {
  const byId = new Map(spans.map((span) => [span.id, span]));
  const roots = [];
  for (const span of spans) {
    const parent = byId.get(span.parentId);
    span.isOrphan = span.parentId !== "" && parent === undefined;
    if (parent === undefined || parent === span) roots.push(span);
    else parent.children.push(span);
  }
  const reached = new Set();
  for (const root of roots) descend(root, reached);
  for (const span of spans) {
    if (reached.has(span)) continue; // else: in a cycle, which only broken data has
    span.isOrphan = true;
    roots.push(span);
    descend(span, reached);
  }
  return roots;
}

function descend(root, reached) {
  const stack = [root];
  reached.add(root);
  while (stack.length > 0) {
    const span = stack.pop();
    span.children = span.children.filter((child) => !reached.has(child));
    for (const child of span.children) {
      reached.add(child);
      child.depth = span.depth + 1;
      stack.push(child);
    }
  }
}

/** Spans of a trace in display order, without those under a collapsed one. */
export function visibleSpans(trace, collapsed) {
  const rows = [];
  const stack = [...trace.roots].reverse();
  while (stack.length > 0) {
    const span = stack.pop();
    rows.push(span);
    if (!collapsed.has(span)) stack.push(...[...span.children].reverse());
  }
  return rows;
}

/** Hues (degrees) for services: far apart, never red, the same on every page with the same services. */
export function serviceHues(services) {
  return new Map([...services].sort().map((service, index) => [service, 30 + (Math.round(182 + index * 185.41) % 300)]));
}
