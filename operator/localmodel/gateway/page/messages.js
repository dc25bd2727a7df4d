// The conversation on screen: questions, answers that grow, what can be done with them, and problems in words.

import { copyButton } from "./clipboard.js";
import { t } from "./language.js";
import { showProblem } from "./problem-box.js";
import { element, renderMarkdown } from "./render.js";

const NEAR_END = 60;

export class MessageList {
  constructor(root, scroller) {
    this.root = root;
    this.scroller = scroller;
  }

  clear() {
    this.root.replaceChildren();
  }

  addQuestion(text) {
    const body = element("div", { class: "body", dir: "auto" }, text);
    this.root.append(element("article", { class: "question" }, element("h2", { class: "off-screen" }, t("you")), body));
  }

  /** `actions`: {again, offers: {retry, key, new, settings, models}}, functions called by the answer's buttons. */
  addAnswer(message, actions) {
    const view = new AnswerView(message, actions);
    this.root.append(view.root);
    return view;
  }

  /** Only the last answer can be asked for again. */
  dropLast() {
    this.root.lastElementChild?.remove();
  }

  markLast() {
    for (const each of this.root.children) each.classList.toggle("last", each === this.root.lastElementChild);
  }

  /** Runs `change`; if the reader was at the end before, they are at the end after it. */
  keepingEnd(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    const following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    change();
    if (following) this.toEnd();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

export class AnswerView {
  #problem = null;
  #frame = 0;

  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.body = element("div", { class: "body markdown", dir: "auto" });
    this.foot = element("div", { class: "foot" });
    this.root = element("article", { class: "answer" }, element("h2", { class: "off-screen" }, t("answer")), this.body, this.foot);
  }

  waiting(seconds) {
    this.root.classList.add("running");
    this.foot.textContent = seconds < 3 ? t("waiting") : t("waitingSince", { seconds });
  }

  /** Draws at most once a frame; `wrap` gets the drawing as a function. */
  grow(wrap) {
    if (this.#frame) return;
    this.foot.replaceChildren();
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      wrap(() => renderMarkdown(this.body, this.message.content));
    });
  }

  finish(problem = null) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.root.classList.remove("running");
    renderMarkdown(this.body, this.message.content);
    this.foot.replaceChildren(...this.#tools());
    if (problem) this.#problem = showProblem(this.root, problem, this.actions.offers);
    this.root.classList.toggle("retries", this.#problem?.retries ?? false);
  }

  dispose() {
    cancelAnimationFrame(this.#frame);
    this.#problem?.dispose();
  }

  #tools() {
    const { content } = this.message;
    const said = remark(this.message);
    const notes = element("span", { class: "notes" }, measures(this.message).join(" · "));
    const again = element("button", { type: "button", class: "quiet again" }, t("again"));
    again.addEventListener("click", () => this.actions.again());
    const copy = content ? [copyButton("copyAnswer", () => this.message.content)] : [];
    return [...(said ? [element("p", { class: "remark" }, said)] : []), ...copy, again, notes];
  }
}

/** How an answer ended, if not by itself. */
function remark({ content, finishReason, stopped, failed }) {
  if (stopped) return t("stopped");
  if (finishReason === "length") return t("cutAtLimit");
  return content || failed ? "" : t("emptyAnswer");
}

/** How long an answer is, how fast it came, how much was read for it. */
function measures({ usage, seconds }) {
  if (!usage) return [];
  const { completion_tokens: made, prompt_tokens: read } = usage;
  const speed = (made - 1) / seconds;
  const pace = seconds > 0 && made > 1 ? [t("tokensPerSecond", { speed: speed.toFixed(speed < 10 ? 1 : 0) })] : [];
  return [t("tokens", { count: made }), ...pace, t("promptTokens", { count: read })];
}
