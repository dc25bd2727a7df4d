// The two requests that the page makes. Every failure leaves here as a Problem; an abort stays an AbortError.

import { EventReader } from "./sse.js";

/** What went wrong, in the server's terms. `problems.js` puts it into words. */
export class Problem extends Error {
  /** `final`: the server says that the same request must not be sent again. */
  constructor(code, { message = "", status = 0, retryAfter = null, final = false, requestId = "" } = {}) {
    super(message || code);
    Object.assign(this, { code, status, retryAfter, final, requestId });
  }
}

export async function listModels(key) {
  const response = await request("v1/models", { headers: authorization(key) });
  const document = await response.json().catch(() => null);
  if (!Array.isArray(document?.data)) throw new Problem("unreadable", { status: response.status });
  return document.data.map((model) => String(model.id));
}

/** Yields {text}, {finishReason} and {usage} as they arrive. Ends only after the server said that it is done. */
export async function* chat(body, key, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...authorization(key) },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  const requestId = response.headers.get("x-request-id") ?? "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(asProblem(requestId));
      if (done) throw new Problem("cut", { requestId });
      for (const data of events.feed(value)) {
        if (data === "[DONE]") return;
        yield* parts(parse(data, requestId), requestId);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function* parts(chunk, requestId) {
  if (chunk.error) throw new Problem(chunk.error.code ?? "failed", { message: chunk.error.message, requestId });
  const choice = chunk.choices?.[0];
  if (choice?.delta?.content) yield { text: choice.delta.content };
  if (choice?.finish_reason) yield { finishReason: choice.finish_reason };
  if (chunk.usage) yield { usage: chunk.usage };
}

function parse(data, requestId) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Problem("cut", { requestId });
  }
}

async function request(path, options) {
  const response = await fetch(path, { ...options, credentials: "same-origin", cache: "no-store" }).catch(asProblem(""));
  if (response.ok) return response;
  const error = (await response.json().catch(() => ({}))).error ?? {};
  throw new Problem(error.code ?? `http_${response.status}`, {
    message: error.message,
    status: response.status,
    retryAfter: seconds(response.headers),
    final: response.headers.get("x-should-retry") === "false",
    requestId: response.headers.get("x-request-id") ?? "",
  });
}

function seconds(headers) {
  const value = Number.parseInt(headers.get("retry-after") ?? "", 10);
  return Number.isFinite(value) ? Math.min(Math.max(value, 1), 600) : null;
}

function authorization(key) {
  return key ? { authorization: `Bearer ${key}` } : {};
}

function asProblem(requestId) {
  return (error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem("network", { message: error.message, requestId });
  };
}
