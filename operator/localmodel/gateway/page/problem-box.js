// A problem under an answer: words, what to do, the server's details, and a countdown where waiting helps.

import { t } from "./language.js";
import { explain } from "./problems.js";
import { element } from "./render.js";

const OFFER_WORDS = { key: "enterKey", new: "newConversation", settings: "settings", models: "reloadModels", retry: "tryAgain" };

/** Appends the box to `root`. `offers`: the function behind each offer. Returns {retries: has it its own button for another try, dispose}. */
export function showProblem(root, problem, offers) {
  const { words, details, offer, wait } = explain(problem);
  const box = element("div", { class: "problem" }, element("p", {}, words));
  let timer = 0;
  if (offer) {
    const button = element("button", { type: "button", class: "strong" }, t(OFFER_WORDS[offer]));
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") offers[offer]();
    });
    box.append(button);
    if (offer === "retry" && wait > 0) timer = countDown(button, wait);
  }
  if (details) box.append(element("details", {}, element("summary", {}, t("details")), element("p", {}, details)));
  root.append(box);
  return {
    retries: offer === "retry",
    dispose() {
      clearInterval(timer);
      box.remove();
    },
  };
}

/** The button keeps its focus and says how long; pressing it does nothing until the time is over. */
function countDown(button, seconds) {
  const until = Date.now() + seconds * 1000;
  const show = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    button.setAttribute("aria-disabled", String(left > 0));
    button.textContent = left > 0 ? t("tryAgainIn", { seconds: left }) : t("tryAgain");
    if (left <= 0) clearInterval(timer);
  };
  const timer = setInterval(show, 250);
  show();
  return timer;
}
