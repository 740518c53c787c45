// Where tusd keeps uploads in S3: <key>, <key>.info and <key>.part; an upload's id is <key>+<multipart upload's id>.
import { S3 } from "./s3.mjs";
import { flags } from "./flags.mjs";

const MAX_PARTS = 10_000;
export const s3 = new S3({
  endpoint: flags["s3-endpoint"] || `https://s3.${process.env.AWS_REGION}.amazonaws.com`,
  bucket: flags["s3-bucket"],
  region: process.env.AWS_REGION ?? "us-east-1",
  accessKey: process.env.AWS_ACCESS_KEY_ID ?? "",
  secretKey: process.env.AWS_SECRET_ACCESS_KEY ?? "",
});

/** An answer of tusd that says no. */
export class Refusal extends Error {
  constructor(code, message, status) {
    super(`${code}: ${message}`);
    this.answer = { StatusCode: status, Body: `${code}: ${message}\n`, Header: { "Content-Type": "text/plain; charset=utf-8" } };
  }
}
export const merge = (one, two = {}) => ({
  StatusCode: two.StatusCode || one.StatusCode,
  Body: two.Body || one.Body || "",
  Header: { ...one.Header, ...two.Header },
});
const notFound = () => new Refusal("ERR_UPLOAD_NOT_FOUND", "upload not found", 404);

const split = (id) => [id.slice(0, id.lastIndexOf("+")), id.slice(id.lastIndexOf("+") + 1)];
export const note = (info) => s3.put(`${split(info.ID)[0]}.info`, JSON.stringify(info));

/** Return what is known of an upload: its info with the offset, its parts, and the size of what is no part yet. */
export async function look(id) {
  const [key, multipart] = split(id);
  if (!id.includes("+") || !key || !multipart) throw notFound();
  const gone = (codes) => (error) => {
    if (codes.includes(error.code)) return null;
    throw error;
  };
  const [info, parts, rest] = await Promise.all([
    s3.get(`${key}.info`).then(JSON.parse).catch(gone(["NoSuchKey"])),
    s3.parts(key, multipart).catch(gone(["NoSuchUpload", "NoSuchKey"])),
    s3.size(`${key}.part`),
  ]);
  if (info === null) throw notFound();
  info.Offset = parts === null ? info.Size : parts.reduce((sum, part) => sum + part.size, rest ?? 0);
  return { info, key, multipart, parts: parts ?? [], rest: rest ?? 0 };
}

/** Append what a source yields; return how many bytes of it are kept. Too little for a part becomes <key>.part. */
export async function append({ info, key, multipart, parts, rest }, source) {
  const wanted = Number(flags["s3-part-size"]);
  const partSize = info.Size <= wanted * MAX_PARTS ? wanted : Math.ceil(info.Size / MAX_PARTS);
  let [held, size, stored] = [[], 0, -rest];
  let done = info.Offset - rest; // bytes that are parts
  const flush = async () => {
    const data = Buffer.concat(held, size);
    [held, size] = [[], 0];
    if (data.length === 0) return;
    const last = !info.SizeIsDeferred && done + data.length === info.Size;
    if (data.length >= Number(flags["s3-min-part-size"]) || last) parts.push(await s3.putPart(key, multipart, parts.length + 1, data));
    else await s3.put(`${key}.part`, data);
    done += data.length;
    stored += data.length;
  };
  if (rest) {
    held.push(await s3.get(`${key}.part`));
    size = rest;
    await s3.remove(`${key}.part`);
  }
  for await (let chunk of source) {
    while (size + chunk.length >= partSize) {
      const room = partSize - size;
      held.push(chunk.subarray(0, room));
      size += room;
      chunk = chunk.subarray(room);
      await flush();
    }
    held.push(chunk);
    size += chunk.length;
  }
  await flush();
  return Math.max(0, stored);
}
