// The three dialogs: settings, key, and "really delete?". They use <dialog>, so the browser keeps the focus inside.

import { t } from "./language.js";
import { isKey } from "./settings.js";

const byId = (id) => document.getElementById(id);

/** Asks before something is deleted; true if it shall be. */
export function confirmDeletion(words) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = words;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export class KeyDialog {
  #used = () => {};

  constructor(settings) {
    this.settings = settings;
    this.dialog = byId("key-dialog");
    byId("cancel-key").addEventListener("click", () => this.dialog.close());
    byId("forget-key").addEventListener("click", () => {
      settings.setKey("", false);
      this.dialog.close();
    });
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#use();
    });
  }

  /** `used` is called once a key was entered. */
  open(used, { refused = false } = {}) {
    this.#used = used;
    byId("key").value = "";
    byId("remember-key").checked = this.settings.keyRemembered;
    byId("forget-key").hidden = !this.settings.key;
    byId("key-problem").textContent = refused && this.settings.key ? t("keyRefused") : "";
    if (!this.dialog.open) this.dialog.showModal();
    byId("key").focus();
  }

  #use() {
    const key = byId("key").value.trim();
    if (!isKey(key)) {
      byId("key-problem").textContent = t("keyMalformed");
      return;
    }
    this.settings.setKey(key, byId("remember-key").checked);
    byId("key").value = "";
    this.dialog.close();
    this.#used();
  }
}

/** Every change counts at once; "Done" only closes. */
export function connectSettings(settings, { theme, language, key }) {
  const dialog = byId("settings");
  const show = () => {
    const { values } = settings;
    byId("system").value = values.system;
    byId("temperature").value = String(values.temperature);
    byId("temperature-value").textContent = values.temperature.toFixed(1);
    byId("max-tokens").value = values.maxTokens > 0 ? String(values.maxTokens) : "";
    byId("theme-setting").value = values.theme;
    byId("language-setting").value = values.language;
  };
  const on = (id, event, change) => byId(id).addEventListener(event, () => change(byId(id).value));
  byId("open-settings").addEventListener("click", () => {
    show();
    dialog.showModal();
  });
  on("system", "input", (system) => settings.set({ system }));
  on("temperature", "input", (value) => {
    settings.set({ temperature: Number(value) });
    byId("temperature-value").textContent = Number(value).toFixed(1);
  });
  on("max-tokens", "input", (value) => settings.set({ maxTokens: Math.trunc(Number(value)) || 0 }));
  on("theme-setting", "change", theme);
  on("language-setting", "change", language);
  byId("change-key").addEventListener("click", () => {
    dialog.close();
    key();
  });
}
