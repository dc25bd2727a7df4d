// Which language the page speaks, and its words: English, or Simplified Chinese where the browser asks for Chinese.

import { WORDS as en } from "./words-en.js";
import { WORDS as zh } from "./words-zh.js";

let words = en;

export function chooseLanguage(setting, preferred) {
  const first = preferred.find((tag) => /^(en|zh)\b/i.test(tag)) ?? "en";
  const chinese = setting ? setting === "zh" : /^zh/i.test(first);
  words = chinese ? zh : en;
  document.documentElement.lang = chinese ? "zh-Hans" : "en";
}

/** The words for `name`, with {placeholders} filled in. */
export function t(name, values = {}) {
  const text = words[name] ?? en[name];
  if (text === undefined) throw new Error(`no words for ${name}`);
  return text.replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
}

export function hasWords(name) {
  return name in en;
}

/** Puts words into the elements that name them: as text, as label (with a tooltip), or as placeholder. */
export function translate(root) {
  for (const each of root.querySelectorAll("[data-t]")) each.textContent = t(each.dataset.t);
  for (const each of root.querySelectorAll("[data-t-label]")) setLabel(each, each.dataset.tLabel);
  for (const each of root.querySelectorAll("[data-t-hint]")) each.placeholder = t(each.dataset.tHint);
}

export function setLabel(button, name) {
  button.setAttribute("aria-label", t(name));
  button.title = t(name);
}
