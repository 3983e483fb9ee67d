// Reads an app's records through the gateway by the official SDK.
//   node sdk.mjs FOLDER   FOLDER holds node_modules with the version to use
// See README.md for the environment and the line that is printed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Agent } from "node:https";
import { resolve } from "node:path";

const require = createRequire(resolve(process.argv[2], "package.json"));
const { KintoneRestAPIClient, KintoneRestAPIError } = require("@kintone/rest-api-client");

const { PROXY_URL, BASE_URL, CA_FILE, API_TOKEN, APP } = process.env;
const proxy = new URL(PROXY_URL);
const auth = proxy.username && {
  username: decodeURIComponent(proxy.username),
  password: decodeURIComponent(proxy.password),
};

const client = new KintoneRestAPIClient({
  baseUrl: BASE_URL,
  auth: { apiToken: API_TOKEN },
  proxy: {
    protocol: "http",
    host: proxy.hostname,
    port: Number(proxy.port),
    ...(auth && { auth }),
  },
  httpsAgent: new Agent({ ca: readFileSync(CA_FILE) }),
});

const say = (line) => console.log(JSON.stringify(line));
try {
  const { records } = await client.record.getRecords({ app: APP });
  say({ ok: true, records });
} catch (error) {
  if (error instanceof KintoneRestAPIError) {
    // The SDK writes "[status] [code] text (id)" into the message.
    say({ ok: false, status: error.status, code: error.code, message: error.message });
  } else {
    say({ ok: false, status: null, code: null, message: String(error) });
  }
}
