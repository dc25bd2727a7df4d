// One conversation at a time: asks, shows the answer as it comes, stops it, keeps what came.

import { Problem, chat } from "./api.js";
import { promptOf } from "./conversations.js";
import { t } from "./language.js";
import { explain } from "./problems.js";

export class Chat {
  #abort = null;
  #running = null;

  /** `on`: {busy(boolean), changed(), key(), fresh(), settings(), models()}, what the page does about it. */
  constructor({ conversations, settings, list, announcer, on }) {
    Object.assign(this, { conversations, settings, list, announcer, on });
    this.conversation = null;
    this.last = null;
  }

  get busy() {
    return this.#running !== null;
  }

  /** Shows a conversation. The answer of the one before is stopped first. */
  async open(conversation) {
    await this.stop();
    this.last?.dispose();
    this.last = null;
    this.conversation = conversation;
    this.list.clear();
    for (const message of conversation.messages) {
      if (message.role === "user") this.list.addQuestion(message.content);
      else {
        this.last = this.#addAnswer(message);
        this.last.finish(message.failed ? new Problem(message.failed.code, { ...message.failed, retryAfter: 0 }) : null);
      }
    }
    this.list.markLast();
    this.list.toEnd();
  }

  ask(text) {
    if (this.busy || !text.trim()) return false;
    this.conversation.messages.push({ role: "user", content: text });
    this.list.addQuestion(text);
    this.#start();
    return true;
  }

  /** Drops the last answer and asks for another. */
  again() {
    if (this.busy || this.conversation.messages.at(-1)?.role !== "assistant") return;
    this.conversation.messages.pop();
    this.last?.dispose();
    this.list.dropLast();
    this.#start();
  }

  async stop() {
    this.#abort?.abort();
    await this.#running;
  }

  /** Writes down what came so far: the page is about to go, and the browser tears the answer off with an error of its own. */
  keep() {
    if (!this.busy) return;
    this.#abort.abort();
    this.conversation.messages.at(-1).stopped = true;
    this.conversations.save(this.conversation);
  }

  #addAnswer(message) {
    const { key, fresh, settings, models } = this.on;
    const offers = { retry: () => this.again(), key, new: fresh, settings, models };
    return this.list.addAnswer(message, { again: () => this.again(), offers });
  }

  #start() {
    const message = { role: "assistant", content: "", model: this.settings.values.model };
    const body = { ...this.#options(), messages: promptOf(this.conversation, this.settings.values.system) };
    this.last?.dispose();
    this.conversation.messages.push(message);
    this.conversations.save(this.conversation);
    this.last = this.#addAnswer(message);
    this.list.markLast();
    this.list.toEnd();
    this.#abort = new AbortController();
    this.#running = this.#run(message, this.last, body, this.#abort.signal).finally(() => {
      this.#running = this.#abort = null;
      this.on.busy(false);
    });
    this.on.busy(true);
    this.on.changed();
  }

  #options() {
    const { model, temperature, maxTokens } = this.settings.values;
    return { ...(model && { model }), temperature, ...(maxTokens > 0 && { max_tokens: maxTokens }) };
  }

  async #run(message, view, body, signal) {
    const { conversation } = this;
    const began = performance.now();
    const tick = () => view.waiting(Math.floor((performance.now() - began) / 1000));
    const clock = setInterval(tick, 1000);
    tick();
    this.announcer.begin(t("writing"));
    let problem = null;
    let first = 0;
    try {
      for await (const part of chat(body, this.settings.key, signal)) {
        if (part.text) {
          clearInterval(clock);
          first ||= performance.now();
          message.content += part.text;
          view.grow((draw) => this.list.keepingEnd(draw));
          this.announcer.progress(message.content);
        }
        if (part.finishReason) message.finishReason = part.finishReason;
        if (part.usage) message.usage = part.usage;
      }
    } catch (error) {
      if (signal.aborted) message.stopped = true;
      else problem = this.#noteProblem(message, error);
    }
    clearInterval(clock);
    if (first) message.seconds = (performance.now() - first) / 1000;
    this.list.keepingEnd(() => view.finish(problem));
    this.announcer.end(message.content, problem ? explain(problem).words : t(message.stopped ? "stopped" : "finished"));
    this.conversations.save(conversation);
    this.on.changed();
    if (problem?.code === "invalid_api_key") this.on.key();
  }

  #noteProblem(message, error) {
    const problem = error instanceof Problem ? error : new Problem("failed", { message: String(error) });
    const { code, status, final, requestId } = problem;
    message.failed = { code, status, final, requestId, message: problem.message };
    return problem;
  }
}
