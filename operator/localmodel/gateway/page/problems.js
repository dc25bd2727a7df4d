// A Problem as something a person can act on: words, and what the page offers. Pure, apart from the words.

import { hasWords, t } from "./language.js";

const WORDS_OF = {
  http_401: "invalid_api_key",
  http_403: "model_not_allowed",
  http_429: "rate_limit_exceeded",
  http_502: "upstream_error",
  http_503: "server_is_overloaded",
  http_504: "queue_timeout",
  circuit_open: "server_is_overloaded",
  key_concurrency_exceeded: "rate_limit_exceeded",
  upstream_protocol_error: "upstream_error",
  internal_error: "upstream_error",
};
const OFFERS = {
  invalid_api_key: "key",
  context_length_exceeded: "new",
  above_limit: "settings",
  model_not_allowed: "",
  model_not_found: "models",
};
const WAIT_SECONDS = { 429: 5, 503: 5 };

/** {words, details, offer: "retry" | "key" | "new" | "settings" | "models" | "", wait: seconds before a retry makes sense} */
export function explain(problem) {
  const code = problem.status === 429 && problem.final ? "above_limit" : (WORDS_OF[problem.code] ?? problem.code);
  const known = hasWords(`problem_${code}`);
  const refused = problem.status >= 400 && problem.status < 500 && problem.status !== 408 && problem.status !== 429;
  return {
    words: known ? t(`problem_${code}`) : t(refused ? "problem_refused" : "problem_failed"),
    details: [problem.message === problem.code ? "" : problem.message, problem.requestId && t("requestNumber", { id: problem.requestId })]
      .filter(Boolean)
      .join(" "),
    offer: OFFERS[code] ?? (refused ? "" : "retry"),
    wait: problem.retryAfter ?? WAIT_SECONDS[problem.status] ?? 0,
  };
}
