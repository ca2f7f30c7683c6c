// The only source of data: Jaeger's query API v3, from the embedded store or a real Jaeger.

/** A failure worth showing. status: the HTTP status, 0 when there was no answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Names of all services, sorted. */
export async function getServices() {
  return ((await get("/api/v3/services")).services ?? []).sort();
}

/** `resourceSpans` of one trace. */
export async function getTrace(traceId) {
  return (await get(`/api/v3/traces/${encodeURIComponent(traceId)}`)).result.resourceSpans;
}

/** `resourceSpans` of the newest `limit` traces of the last `lookbackS` seconds; [] when none. */
export async function findTraces({ service, lookbackS, limit }) {
  const query = new URLSearchParams({
    "query.start_time_min": new Date(Date.now() - lookbackS * 1000).toISOString(),
    "query.start_time_max": new Date(Date.now() + 60_000).toISOString(), // clocks differ
    "query.num_traces": String(limit),
  });
  if (service) query.set("query.service_name", service);
  try {
    return (await get(`/api/v3/traces?${query}`)).result.resourceSpans;
  } catch (error) {
    if (error.status === 404) return [];
    throw error;
  }
}

async function get(path) {
  let response;
  try {
    response = await fetch(path, { headers: { accept: "application/json" } });
  } catch {
    throw new ApiError(0, "The trace store does not answer. Is it still running?");
  }
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(response.status, `The answer to ${path} is not JSON (status ${response.status}).`);
  }
  if (!response.ok) throw new ApiError(response.status, body.error?.message ?? `Status ${response.status}`);
  return body;
}
