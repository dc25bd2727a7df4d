// The question field: grows with its text, sends with Enter, and its button stops a running answer.

import { setLabel } from "./language.js";

const MAX_HEIGHT = 240;

export class Composer {
  #busy = false;

  /** `on`: {ask(text): was it taken, stop()} */
  constructor(on) {
    this.on = on;
    this.field = document.getElementById("question");
    this.button = document.getElementById("send");
    this.field.addEventListener("input", () => this.#changed());
    this.field.addEventListener("keydown", (event) => this.#keyDown(event));
    document.getElementById("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#changed();
  }

  set busy(busy) {
    this.#busy = busy;
    this.#changed();
  }

  put(text) {
    this.field.value = text;
    this.#changed();
    this.field.focus();
  }

  /** While an input method composes (Chinese, Japanese), Enter picks a candidate and must not send. */
  #keyDown(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    if (!this.#busy) this.#submit();
  }

  #submit() {
    if (this.#busy) this.on.stop();
    else if (this.on.ask(this.field.value)) this.field.value = "";
    this.#changed();
    this.field.focus();
  }

  #changed() {
    this.button.dataset.state = this.#busy ? "busy" : "idle";
    setLabel(this.button, this.#busy ? "stop" : "send");
    this.button.setAttribute("aria-disabled", String(!this.#busy && !this.field.value.trim()));
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, MAX_HEIGHT)}px`;
  }
}
