// What every client in Node shares: errands come in on stdin, one a line, and each is answered by a
// line of JSON. See ../README.md for both.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { inspect } from "node:util";

export const { APP, API_TOKEN } = process.env;
export const MODE = process.argv[2];
export const QUERY = "order by $id asc";

/** The path of records.json with its query. */
export const RECORDS = `records.json?app=${APP}&query=${encodeURIComponent(QUERY)}`;

/** A new record with the file of this key. */
export function record(errand, key) {
  const values = { title: errand.title, tel: "03-0000-1111", num: "42", files: [{ fileKey: key }] };
  return Object.fromEntries(Object.entries(values).map(([code, value]) => [code, { value }]));
}

/** The key by which a record's file is fetched. */
export const fileKey = (shown) => shown.record.files.value[0].fileKey;

/** An answer of 400 and above. */
export class Refused extends Error {
  constructor(status, text, retryAfter) {
    super(text);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * Adds a record with a file, fetches the file, reads the records. `call(method, path, body)` gives
 * `{ content, version }`; a body is an object for JSON or a `Form`.
 */
export async function workBy(call, errand, content, Form = FormData) {
  const json = async (...call_) => JSON.parse((await call(...call_)).content.toString());
  const form = new Form();
  form.append("file", new Blob([content]), "a.bin");
  const upload = await json("POST", "file.json", form);
  const added = await json("POST", "record.json", { app: APP, record: record(errand, upload.fileKey) });
  const shown = await json("GET", `record.json?app=${APP}&id=${added.id}`);
  const file = await call("GET", `file.json?fileKey=${fileKey(shown)}`);
  return { ...(await readBy(call)), content: file.content };
}

/** Reads the records. */
export async function readBy(call) {
  const { content, version } = await call("GET", RECORDS);
  return { answer: JSON.parse(content.toString()), version };
}

/** Runs errands until there are no more. */
export async function serve(read, work) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [what, proxy, base, title, file] = line.split("\t");
    const errand = { proxy: new URL(proxy), base, title, file };
    let said;
    try {
      if (what === "work") {
        const { content, ...rest } = await work(errand);
        said = { ok: true, ...rest, file_sha256: createHash("sha256").update(content).digest("hex") };
      } else {
        said = { ok: true, ...(await read(errand)) };
      }
    } catch (error) {
      // As Node shows an error that nobody caught.
      said = { ok: false, said: inspect(error), status: error.status, retry_after: error.retryAfter };
    }
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
}
