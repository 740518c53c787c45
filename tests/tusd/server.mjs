// Stands in for tusd v2.8.0 where that cannot be installed: same flags, same hooks, same objects in S3. See README.md.
import { createServer } from "node:http";
import { randomBytes } from "node:crypto";
import { flags } from "./flags.mjs";
import { hook, log, notify, told } from "./hooks.mjs";
import { append, look, merge, note, Refusal, s3 } from "./store.mjs";

const VALID_ID = /^[A-Za-z0-9\-._~%!$'()*+,;=/:@]*$/;
const base = `/${flags["base-path"]}/`.replace(/\/{2,}/g, "/");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const invalidLength = () => new Refusal("ERR_INVALID_UPLOAD_LENGTH", "missing or invalid Upload-Length header", 400);
const whole = (text) => (/^\d+$/.test(text ?? "") ? Number(text) : undefined);

// --- locks: the newest request wins ----------------------------------------------------------------------------------

const locks = new Map(); // id -> { cancel, released }

async function locked(id, work) {
  const until = Date.now() + 20_000;
  for (let holder; (holder = locks.get(id)); ) {
    log("UploadInterrupted", { id });
    holder.cancel(new Refusal("ERR_UPLOAD_INTERRUPTED", "upload has been interrupted by another request for this upload resource", 400));
    if ((await Promise.race([holder.released, sleep(until - Date.now()).then(() => "late")])) === "late") {
      throw new Refusal("ERR_LOCK_TIMEOUT", "failed to acquire lock before timeout", 500);
    }
  }
  let release;
  const lock = { released: new Promise((resolve) => (release = resolve)) };
  lock.cancelled = new Promise((resolve) => (lock.cancel = resolve));
  locks.set(id, lock);
  try {
    return await work(lock);
  } finally {
    locks.delete(id);
    release();
  }
}

// --- requests ----------------------------------------------------------------------------------------------------------

/** Yield a body up to a limit; `body.error` says why it ended early, `body.count` how much came. */
async function* reading(req, limit, lock, body) {
  const chunks = req.iterator({ destroyOnReturn: false });
  const timeout = flags["network-timeout"];
  lock.cancelled.then((error) => (body.error ??= error));
  for (;;) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, timeout, "late")));
    let next;
    try {
      next = await Promise.race([chunks.next(), lock.cancelled, late]);
    } catch {
      body.error ??= new Refusal("ERR_UNEXPECTED_EOF", "server expected to receive more bytes", 400);
    } finally {
      clearTimeout(timer);
    }
    if (next === "late") body.error ??= new Refusal("ERR_READ_TIMEOUT", "timeout while reading request body", 500);
    if (body.error || next.done) return;
    const room = limit - body.count;
    const chunk = next.value.subarray(0, room);
    body.count += chunk.length;
    yield chunk;
    if (next.value.length > room) {
      body.error = new Refusal("ERR_UPLOAD_SIZE_EXCEEDED", "upload's size exceeded", 413);
      return;
    }
  }
}

async function finish(upload, answer, request) {
  const { info, key, multipart, parts } = upload;
  if (info.SizeIsDeferred || info.Offset !== info.Size) return answer;
  if (parts.length === 0) parts.push(await s3.putPart(key, multipart, 1, Buffer.alloc(0)));
  await s3.complete(key, multipart, parts);
  const said = await hook("pre-finish", { ...info }, request);
  notify("post-finish", { ...info }, request);
  return merge(answer, said.HTTPResponse);
}

/** Tell of the progress each second, and once more after the end, if it changed. */
function progress(upload, body, request, lock) {
  const before = { ...upload.info };
  let [told, over] = [0, false];
  const tick = () => {
    const offset = before.Offset + body.count;
    if (offset !== told) {
      notify("post-receive", { ...before, Offset: offset }, request, (said) => {
        const stopped = new Refusal("ERR_UPLOAD_STOPPED", "upload has been stopped by server", 400);
        stopped.answer = merge(stopped.answer, said.HTTPResponse);
        stopped.stops = true;
        if (said.StopUpload) lock.cancel(stopped);
      });
      told = offset;
    }
    if (over) clearInterval(timer);
  };
  const timer = setInterval(tick, flags["progress-hooks-interval"]);
  return () => (over = true);
}

async function write(req, upload, answer, request, lock) {
  const { info } = upload;
  const length = whole(req.headers["content-length"]);
  if (!info.SizeIsDeferred && info.Offset + (length ?? 0) > info.Size) {
    throw new Refusal("ERR_UPLOAD_SIZE_EXCEEDED", "upload's size exceeded", 413);
  }
  const most = Number(flags["max-size"]) ? Number(flags["max-size"]) - info.Offset : Infinity;
  const body = { count: 0, error: undefined };
  const ended = progress(upload, body, request, lock);
  let written = 0, failure;
  try {
    written = await append(upload, reading(req, length || (info.SizeIsDeferred ? most : info.Size - info.Offset), lock, body));
  } catch (error) {
    failure = error;
  } finally {
    ended();
  }
  failure ??= body.error;
  if (body.error?.stops) await terminate(upload, request);
  info.Offset += written;
  answer.Header["Upload-Offset"] = String(info.Offset);
  const finished = await finish(upload, answer, request).catch((error) => {
    throw failure ?? error;
  });
  if (failure) throw failure;
  return finished;
}

function newLength(headers) {
  const [length, deferred] = [headers["upload-length"], headers["upload-defer-length"]];
  if (length && deferred) throw new Refusal("ERR_AMBIGUOUS_UPLOAD_LENGTH", "provided both Upload-Length and Upload-Defer-Length", 400);
  if (deferred && deferred !== "1") throw new Refusal("ERR_INVALID_UPLOAD_LENGTH_DEFER", "invalid Upload-Defer-Length header", 400);
  if (!deferred && whole(length) === undefined) throw invalidLength();
  return [deferred ? 0 : whole(length), Boolean(deferred)];
}

function metadata(header = "") {
  const pairs = header.split(",").map((pair) => pair.trim().split(" ")).filter(([name, ...rest]) => name && rest.length < 2);
  return Object.fromEntries(pairs.map(([name, value = ""]) => [name, Buffer.from(value, "base64").toString()]).sort());
}

async function post(req, request) {
  const [Size, SizeIsDeferred] = newLength(req.headers);
  if (Number(flags["max-size"]) && Size > Number(flags["max-size"])) throw new Refusal("ERR_MAX_SIZE_EXCEEDED", "maximum size exceeded", 413);
  let info = {
    ID: "", Size, SizeIsDeferred, Offset: 0, MetaData: metadata(req.headers["upload-metadata"]),
    IsPartial: false, IsFinal: false, PartialUploads: null, Storage: null,
  };
  const said = await hook("pre-create", info, request);
  let answer = merge({ StatusCode: 201, Body: "", Header: {} }, said.HTTPResponse);
  if (said.RejectUpload) {
    const rejected = new Refusal("ERR_UPLOAD_REJECTED", "upload creation has been rejected by server", 400);
    rejected.answer = merge(rejected.answer, said.HTTPResponse);
    throw rejected;
  }
  const { ID: wanted, MetaData } = said.ChangeFileInfo ?? {};
  if (wanted && (/^\/|\/$/.test(wanted) || !VALID_ID.test(wanted))) throw new Error(`validation error in FileInfoChanges: (got: ${wanted})`);
  if (MetaData) info.MetaData = MetaData;
  const key = wanted || randomBytes(16).toString("hex");
  const printable = Object.fromEntries(Object.entries(info.MetaData).map(([name, value]) => [name, value.replace(/[^\x09\x20-\x7e]/g, "?")]));
  const multipart = await s3.create(key, printable);
  info = { ...info, ID: `${key}+${multipart}`, Storage: { Bucket: flags["s3-bucket"], Key: key, Type: "s3store" } };
  await note(info);
  const forwarded = flags["behind-proxy"] ? req.headers : {};
  const host = forwarded["x-forwarded-host"] ?? req.headers.host;
  const scheme = /^https?$/.test(forwarded["x-forwarded-proto"]) ? forwarded["x-forwarded-proto"] : "http";
  answer.Header.Location = `${scheme}://${host.replace(scheme === "http" ? /:80$/ : /:443$/, "")}${base}${info.ID}`;
  notify("post-create", { ...info }, request);
  const upload = { info, key, multipart, parts: [], rest: 0 };
  if (req.headers["content-type"] === "application/offset+octet-stream") {
    answer = await locked(info.ID, (lock) => write(req, upload, answer, request, lock));
  } else {
    answer = await finish(upload, answer, request);
  }
  return answer;
}

async function head(id) {
  const { info } = await look(id);
  const Header = { "Cache-Control": "no-store", "Upload-Offset": String(info.Offset) };
  const pairs = Object.entries(info.MetaData ?? {}).map(([name, value]) => `${name} ${Buffer.from(value).toString("base64")}`);
  if (pairs.length) Header["Upload-Metadata"] = pairs.join(",");
  if (info.SizeIsDeferred) Header["Upload-Defer-Length"] = "1";
  else Header["Upload-Length"] = Header["Content-Length"] = String(info.Size);
  return { StatusCode: 200, Body: "", Header };
}

async function patch(req, id, request, lock) {
  const upload = await look(id);
  const { info } = upload;
  if (whole(req.headers["upload-offset"]) !== info.Offset) throw new Refusal("ERR_MISMATCHED_OFFSET", "mismatched offset", 409);
  const answer = { StatusCode: 204, Body: "", Header: { "Upload-Offset": String(info.Offset) } };
  if (!info.SizeIsDeferred && info.Offset === info.Size) return answer;
  if (req.headers["upload-length"]) {
    const length = whole(req.headers["upload-length"]);
    const most = Number(flags["max-size"]) || Infinity;
    if (!info.SizeIsDeferred || length === undefined || length < info.Offset || length > most) throw invalidLength();
    Object.assign(info, { Size: length, SizeIsDeferred: false });
    await note(info);
  }
  return write(req, upload, answer, request, lock);
}

async function terminate(upload, request) {
  const { key, multipart, info } = upload;
  await s3.abort(key, multipart).catch((error) => error.code === "NoSuchUpload" || log("TerminateError", { error: error.message }));
  await Promise.all([key, `${key}.part`, `${key}.info`].map((name) => s3.remove(name)));
  notify("post-terminate", info, request);
}

function cors(req, res) {
  if (!req.headers.origin) return;
  res.setHeader("Access-Control-Allow-Origin", req.headers.origin);
  res.setHeader("Vary", "Origin");
  if (req.verb === "OPTIONS") {
    res.setHeader("Access-Control-Allow-Methods", "POST, HEAD, PATCH, OPTIONS, GET, DELETE");
    res.setHeader("Access-Control-Allow-Headers", "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Content-Type, Upload-Length, Upload-Offset, Tus-Resumable, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version");
    res.setHeader("Access-Control-Max-Age", "86400");
  } else {
    res.setHeader("Access-Control-Expose-Headers", "Upload-Offset, Location, Upload-Length, Tus-Version, Tus-Resumable, Tus-Max-Size, Tus-Extension, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version");
  }
}

async function route(req, res) {
  req.verb = (req.method === "POST" && req.headers["x-http-method-override"]) || req.method;
  const path = decodeURIComponent(req.url.split("?")[0]);
  if (path !== base.slice(0, -1) && !path.startsWith(base)) {
    return path === "/" ? { StatusCode: 200, Body: "Welcome to tusd (a stand-in)\n" } : { StatusCode: 404, Body: "404 page not found\n" };
  }
  cors(req, res);
  res.setHeader("Tus-Resumable", "1.0.0");
  res.setHeader("X-Content-Type-Options", "nosniff");
  if (req.verb === "OPTIONS") {
    const limit = Number(flags["max-size"]) ? { "Tus-Max-Size": flags["max-size"] } : {};
    return { StatusCode: 200, Header: { "Tus-Version": "1.0.0", "Tus-Extension": "creation,creation-with-upload,termination,creation-defer-length", ...limit } };
  }
  if (!["GET", "HEAD"].includes(req.verb) && req.headers["tus-resumable"] !== "1.0.0") {
    throw new Refusal("ERR_UNSUPPORTED_VERSION", "missing, invalid or unsupported Tus-Resumable header", 412);
  }
  const id = path.slice(base.length).replace(/^\/+|\/+$/g, "");
  const request = told(req);
  if (!id) return req.verb === "POST" ? post(req, request) : { StatusCode: 405, Body: "method not allowed", Header: { Allow: "POST" } };
  if (req.verb === "PATCH") {
    if (req.headers["content-type"] !== "application/offset+octet-stream") throw new Refusal("ERR_INVALID_CONTENT_TYPE", "missing or invalid Content-Type header", 400);
    if (whole(req.headers["upload-offset"]) === undefined) throw new Refusal("ERR_INVALID_OFFSET", "missing or invalid Upload-Offset header", 400);
  }
  const verbs = {
    HEAD: () => head(id),
    PATCH: (lock) => patch(req, id, request, lock),
    ...(!flags["disable-termination"] && { DELETE: async () => (await terminate(await look(id), request), { StatusCode: 204 }) }),
  };
  if (!verbs[req.verb]) return { StatusCode: 405, Body: "method not allowed", Header: { Allow: "GET, HEAD, PATCH, DELETE" } };
  return locked(id, verbs[req.verb]);
}

async function serve(req, res) {
  req.on("error", () => {}); // whoever reads the body sees it
  let answer;
  try {
    answer = await route(req, res);
  } catch (error) {
    if (!(error instanceof Refusal)) log("InternalServerError", { message: error.message });
    answer = error.answer ?? new Refusal("ERR_INTERNAL_SERVER_ERROR", error.message, 500).answer;
  }
  log("ResponseOutgoing", { method: req.verb, path: req.url, status: answer.StatusCode });
  const unread = !req.complete && (req.headers["transfer-encoding"] || Number(req.headers["content-length"]) > 0);
  if (unread) res.setHeader("Connection", "close");
  const body = req.method === "HEAD" ? "" : answer.Body ?? "";
  if (body) res.setHeader("Content-Length", Buffer.byteLength(body));
  res.writeHead(answer.StatusCode, answer.Header).end(body);
  if (unread) setTimeout(() => req.socket.destroy(), 500).unref(); // after the client has had time to read the answer
}

const server = createServer({ maxHeaderSize: 1 << 20, requestTimeout: 0, keepAliveTimeout: 60_000 }, serve);
server.listen(Number(flags.port), flags.host, () => log("Listening", { port: server.address().port, base }));
for (const name of ["SIGINT", "SIGTERM"]) {
  process.once(name, () => {
    for (const lock of locks.values()) lock.cancel(new Refusal("ERR_SERVER_SHUTDOWN", "request has been interrupted because the server is shutting down", 503));
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), flags["shutdown-timeout"]).unref();
  });
}
