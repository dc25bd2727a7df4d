// Reads an answer to screen readers sentence by sentence, not token by token.

import { parseInline } from "./inline.js";

/** Where the last finished sentence of `text` ends. Pure. */
export function finishedUntil(text) {
  const ends = [...text.matchAll(/[.!?:](?=\s)|[。！？；：\n]/g)];
  return ends.length ? ends[ends.length - 1].index + 1 : 0;
}

/** Markdown without its signs, as one would say it. Pure. */
export function spoken(text) {
  const flat = (nodes) => nodes.map((node) => node.text ?? (node.children ? flat(node.children) : " ")).join("");
  return flat(parseInline(text.replace(/^\s*(#{1,6}|>|[-*+]|```.*|~~~.*)\s*/gm, ""))).replace(/\s+/g, " ").trim();
}

export class Announcer {
  #said = 0;

  constructor(region) {
    this.region = region;
  }

  begin(words) {
    this.#said = 0;
    this.region.replaceChildren();
    this.say(words);
  }

  progress(text) {
    const until = finishedUntil(text);
    if (until > this.#said) this.#sayUntil(text, until);
  }

  end(text, words) {
    if (text.length > this.#said) this.#sayUntil(text, text.length);
    if (words) this.say(words);
  }

  say(words) {
    const line = document.createElement("p");
    line.textContent = words;
    this.region.append(line);
  }

  #sayUntil(text, until) {
    const words = spoken(text.slice(this.#said, until));
    this.#said = until;
    if (words) this.say(words);
  }
}
