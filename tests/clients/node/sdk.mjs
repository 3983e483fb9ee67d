// The official SDK.
//   node sdk.mjs MODE FOLDER   FOLDER holds node_modules with the version to use
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { API_TOKEN, APP, QUERY, fileKey, record, serve } from "./errands.mjs";

const require = createRequire(resolve(process.argv[3], "package.json"));
const { KintoneRestAPIClient } = require("@kintone/rest-api-client");


const client = ({ proxy, base }) =>
  new KintoneRestAPIClient({
    baseUrl: base,
    auth: { apiToken: API_TOKEN },
    proxy: {
      protocol: "http",
      host: proxy.hostname,
      port: Number(proxy.port),
      auth: {
        username: decodeURIComponent(proxy.username),
        password: decodeURIComponent(proxy.password),
      },
    },
  });

const getRecords = (made) => made.record.getRecords({ app: APP, query: QUERY });

await serve(
  async (errand) => ({ answer: await getRecords(client(errand)) }),
  async (errand) => {
    const made = client(errand);
    const data = readFileSync(errand.file);
    const upload = await made.file.uploadFile({ file: { name: "a.bin", data } });
    const added = await made.record.addRecord({ app: APP, record: record(errand, upload.fileKey) });
    const shown = await made.record.getRecord({ app: APP, id: added.id });
    const content = Buffer.from(await made.file.downloadFile({ fileKey: fileKey(shown) }));
    return { answer: await getRecords(made), content };
  },
);
