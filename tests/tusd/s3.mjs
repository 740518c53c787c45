// The nine calls of the S3 API that a tus server needs, signed by SigV4, path style. No packages needed.
import { createHash, createHmac } from "node:crypto";

const hash = (data) => createHash("sha256").update(data).digest("hex");
const hmac = (key, data) => createHmac("sha256", key).update(data).digest();
const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
const tag = (xml, name) => xml.match(new RegExp(`<${name}>([^<]*)</${name}>`))?.[1].replaceAll("&#34;", '"').replaceAll("&quot;", '"');

export class S3Error extends Error {
  constructor(status, code, message) {
    super(`${code}: ${message}`);
    this.status = status;
    this.code = code;
  }
}

export class S3 {
  constructor({ endpoint, bucket, region, accessKey, secretKey }) {
    Object.assign(this, { endpoint: new URL(endpoint), bucket, region, accessKey, secretKey });
  }

  async create(key, metadata) {
    const headers = Object.fromEntries(Object.entries(metadata).map(([name, value]) => [`x-amz-meta-${name.toLowerCase()}`, value]));
    return tag(await this.#text("POST", key, { uploads: "" }, undefined, headers), "UploadId");
  }

  async putPart(key, uploadId, number, body) {
    const answer = await this.#send("PUT", key, { partNumber: String(number), uploadId }, body);
    await answer.arrayBuffer();
    return { number, size: body.length, etag: answer.headers.get("etag") };
  }

  async parts(key, uploadId) {
    const found = [];
    for (let marker = "", more = true; more; ) {
      const xml = await this.#text("GET", key, { uploadId, ...(marker && { "part-number-marker": marker }) });
      for (const [part] of xml.matchAll(/<Part>.*?<\/Part>/gs)) {
        found.push({ number: Number(tag(part, "PartNumber")), size: Number(tag(part, "Size")), etag: tag(part, "ETag") });
      }
      more = tag(xml, "IsTruncated") === "true";
      marker = tag(xml, "NextPartNumberMarker");
    }
    return found;
  }

  async complete(key, uploadId, parts) {
    const list = parts.map(({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`);
    const body = `<CompleteMultipartUpload>${list.join("")}</CompleteMultipartUpload>`;
    const xml = await this.#text("POST", key, { uploadId }, body);
    if (xml.includes("<Error>")) throw new S3Error(200, tag(xml, "Code"), tag(xml, "Message")); // a 200 that failed late
  }

  abort = (key, uploadId) => this.#text("DELETE", key, { uploadId });
  put = (key, body) => this.#text("PUT", key, {}, body);
  remove = (key) => this.#text("DELETE", key, {});

  async get(key) {
    return Buffer.from(await (await this.#send("GET", key, {})).arrayBuffer());
  }

  /** Size of an object; null if there is none. */
  async size(key) {
    try {
      return Number((await this.#send("HEAD", key, {})).headers.get("content-length"));
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  #text = async (...request) => (await this.#send(...request)).text();

  async #send(method, key, query, body, extra = {}) {
    const path = `${this.endpoint.pathname.replace(/\/$/, "")}/${[this.bucket, ...key.split("/")].map(encode).join("/")}`;
    const search = Object.keys(query).sort().map((name) => `${encode(name)}=${encode(query[name])}`).join("&");
    const moment = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
    const scope = `${moment.slice(0, 8)}/${this.region}/s3/aws4_request`;
    const headers = { host: this.endpoint.host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": moment, ...extra };
    const names = Object.keys(headers).sort();
    const canonical = [method, path, search, ...names.map((name) => `${name}:${headers[name]}`), "", names.join(";"), "UNSIGNED-PAYLOAD"];
    const key4 = scope.split("/").reduce((secret, part) => hmac(secret, part), `AWS4${this.secretKey}`);
    const signature = hmac(key4, ["AWS4-HMAC-SHA256", moment, scope, hash(canonical.join("\n"))].join("\n")).toString("hex");
    const { host, ...sent } = headers;
    sent.authorization = `AWS4-HMAC-SHA256 Credential=${this.accessKey}/${scope}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
    const answer = await fetch(`${this.endpoint.origin}${path}${search && `?${search}`}`, { method, headers: sent, body });
    if (answer.ok) return answer;
    const said = await answer.text();
    throw new S3Error(answer.status, tag(said, "Code") ?? (answer.status === 404 ? "NoSuchKey" : "Unknown"), tag(said, "Message") ?? said);
  }
}
