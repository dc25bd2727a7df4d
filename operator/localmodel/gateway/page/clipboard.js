// Copying. On plain HTTP browsers offer no clipboard API, so the older way is the fallback.

import { t } from "./language.js";

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "off-screen";
  field.setAttribute("aria-hidden", "true");
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}

/** A button that copies what `read` returns and says so for two seconds. */
export function copyButton(label, read) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet copy";
  const show = (name, state) => {
    button.textContent = t(name);
    button.dataset.state = state;
  };
  show(label, "");
  button.addEventListener("click", async () => {
    const copied = await copyText(read());
    show(copied ? "copied" : "copyFailed", copied ? "done" : "failed");
    setTimeout(() => show(label, ""), 2000);
  });
  return button;
}
