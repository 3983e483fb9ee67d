// got: a tunnel for https: by hpagent, absolute form for http: by http-proxy-agent. (For http: hpagent asks
// for CONNECT to port 80.)
import { readFileSync } from "node:fs";
import got from "got";
import { HttpsProxyAgent } from "hpagent";
import { HttpProxyAgent } from "http-proxy-agent";
import { API_TOKEN, Refused, readBy, serve, workBy } from "./errands.mjs";

const caller = (errand) => {
  const proxy = errand.proxy.href;
  const agent = {
    http: new HttpProxyAgent(proxy, { keepAlive: true }),
    https: new HttpsProxyAgent({ proxy, keepAlive: true }),
  };
  return async (method, path, body) => {
    const answer = await got(`${errand.base}/k/v1/${path}`, {
      method,
      agent,
      headers: { "X-Cybozu-API-Token": API_TOKEN },
      ...(body instanceof FormData ? { body } : { json: body }),
      responseType: "buffer",
      throwHttpErrors: false,
      // By itself got repeats 429 and 503 as Retry-After says, which is safe; here each answer is wanted.
      retry: { limit: 0 },
    });
    if (!answer.ok) {
      throw new Refused(answer.statusCode, answer.body.toString(), answer.headers["retry-after"]);
    }
    return { content: answer.body, version: `HTTP/${answer.httpVersion}` };
  };
};

await serve(
  (errand) => readBy(caller(errand)),
  (errand) => workBy(caller(errand), errand, readFileSync(errand.file)),
);
