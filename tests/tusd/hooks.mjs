// The hooks of tusd: what they tell, and how often they are tried.
import { flags } from "./flags.mjs";

const events = new Set(flags["hooks-enabled-events"].split(",").map((name) => name.trim()));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const log = (event, about = {}) => console.log(JSON.stringify({ time: new Date().toISOString(), event, ...about }));

/** What tusd tells of a request: names in Go's capitals, each with a list of values, sorted. */
export function told(req) {
  const found = { Host: [req.headers.host ?? ""] };
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    const name = req.rawHeaders[i].toLowerCase().replace(/(^|-)[a-z]/g, (c) => c.toUpperCase());
    if (name !== "Host" && name !== "Transfer-Encoding") (found[name] ??= []).push(req.rawHeaders[i + 1]);
  }
  const remote = `${req.socket.remoteAddress?.replace(/^::ffff:/, "")}:${req.socket.remotePort}`;
  return { Method: req.verb, URI: req.url, RemoteAddr: remote, Header: Object.fromEntries(Object.entries(found).sort()) };
}

/** Post a hook, up to three times at 1 s; return its answer, {} if the event is not enabled. */
export async function hook(type, info, request) {
  if (!flags["hooks-http"] || !events.has(type)) return {};
  const url = new URL(flags["hooks-http"]);
  const headers = { "Content-Type": "application/json", "User-Agent": "Go-http-client/1.1" };
  if (url.username || url.password) {
    headers.Authorization = `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString("base64")}`;
    url.username = url.password = "";
  }
  const body = JSON.stringify({ Type: type, Event: { Upload: info, HTTPRequest: request } });
  const tries = Math.max(1, Number(flags["hooks-http-retry"]));
  for (let attempt = 1; ; attempt++) {
    let answer, failure;
    try {
      answer = await fetch(url, { method: "POST", headers, body });
    } catch (error) {
      failure = `Post "${url.origin}${url.pathname}": ${error.cause?.message ?? error.message}`;
    }
    if ((failure || answer.status >= 500) && attempt < tries) {
      await answer?.body?.cancel();
      await sleep(flags["hooks-http-backoff"]);
      continue;
    }
    if (failure) throw new Error(failure);
    const said = await answer.text();
    if (!answer.ok) throw new Error(`unexpected response code from hook endpoint (${answer.status}): ${said}`);
    return JSON.parse(said);
  }
}

/** Post a hook that nobody waits for. */
export const notify = (type, info, request, then = () => {}) =>
  void hook(type, info, request).then(then, (error) => log("HookInvocationError", { type, id: info.ID, error: error.message }));
