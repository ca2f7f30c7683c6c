// Numbers and times as people read them.

/** A duration in nanoseconds, three significant digits: "812 ns", "3.2 ms", "1 m 04 s". */
export function duration(ns) {
  if (ns < 0) return `-${duration(-ns)}`;
  if (ns === 0) return "0";
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${short(ns / 1e3)} µs`;
  if (ns < 1e9) return `${short(ns / 1e6)} ms`;
  if (ns < 60e9) return `${short(ns / 1e9)} s`;
  const seconds = Math.round(ns / 1e9);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${pad(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${pad(Math.floor((seconds % 3600) / 60))} m`;
}

const short = (number) => (number < 10 ? number.toFixed(2) : number < 100 ? number.toFixed(1) : number.toFixed(0));
const pad = (number, width = 2) => String(number).padStart(width, "0");

/** Local date and time to the millisecond, from BigInt nanoseconds since the epoch. */
export function moment(ns) {
  const date = new Date(Number(ns / 1000000n));
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part)).join(":");
  return `${day} ${time}.${pad(date.getMilliseconds(), 3)}`;
}

/** "12 s ago", from BigInt nanoseconds since the epoch. */
export function ago(ns) {
  const seconds = Math.round(Date.now() / 1000 - Number(ns / 1000000n) / 1000);
  if (seconds < 0) return "in the future";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** An operation's name where room is scarce: `shop.user.v1.UserService/GetUser` without its package. */
export function operation(name) {
  return name.match(/^(?:\w+\.)+(\w+\/\w+)$/)?.[1] ?? name;
}

/** "1 span", "3 spans". */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** An OTLP AnyValue as text. */
export function anyValue(value) {
  if (!value) return "";
  if ("stringValue" in value) return value.stringValue;
  if ("arrayValue" in value) return `[${(value.arrayValue.values ?? []).map(quoted).join(", ")}]`;
  if ("kvlistValue" in value) {
    const items = value.kvlistValue.values ?? [];
    return `{${items.map((item) => `${item.key}: ${quoted(item.value)}`).join(", ")}}`;
  }
  if ("bytesValue" in value) return `base64:${value.bytesValue}`;
  return String(value.intValue ?? value.doubleValue ?? value.boolValue ?? "");
}

const quoted = (value) => (value && "stringValue" in value ? JSON.stringify(value.stringValue) : anyValue(value));
