// undici's fetch through its ProxyAgent: a tunnel for https:, absolute form for http: by `proxyTunnel`.
import { readFileSync } from "node:fs";
import { FormData, ProxyAgent, fetch } from "undici";
import { API_TOKEN, MODE, Refused, readBy, serve, workBy } from "./errands.mjs";

const caller = (errand) => {
  const login = `${decodeURIComponent(errand.proxy.username)}:${decodeURIComponent(errand.proxy.password)}`;
  const dispatcher = new ProxyAgent({
    uri: errand.proxy.origin,
    token: `Basic ${Buffer.from(login).toString("base64")}`,
    proxyTunnel: MODE !== "forward-http",
    allowH2: MODE === "inspect-h2",
    requestTls: { allowH2: MODE === "inspect-h2" },
  });
  return async (method, path, body) => {
    const headers = { "X-Cybozu-API-Token": API_TOKEN };
    if (body !== undefined && !(body instanceof FormData)) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(body);
    }
    const answer = await fetch(`${errand.base}/k/v1/${path}`, { method, headers, body, dispatcher });
    const content = Buffer.from(await answer.arrayBuffer());
    if (!answer.ok) {
      throw new Refused(answer.status, content.toString(), answer.headers.get("retry-after"));
    }
    return { content };
  };
};

await serve(
  (errand) => readBy(caller(errand)),
  (errand) => workBy(caller(errand), errand, readFileSync(errand.file), FormData),
);
