// What the user chose: kept in this browser. The key lives as long as the tab, unless the user wants it remembered.

const SETTINGS = "localmodel.settings";
const KEY = "localmodel.key";
export const DEFAULTS = { model: "", system: "", temperature: 0.7, maxTokens: 0, theme: "", language: "" };

export class Settings {
  constructor(storage, session) {
    this.storage = storage;
    this.session = session;
    this.values = { ...DEFAULTS, ...valid(storage.read(SETTINGS)) };
  }

  set(changes) {
    this.values = { ...this.values, ...valid(changes) };
    this.storage.write(SETTINGS, this.values);
  }

  get key() {
    const key = this.session.read(KEY) ?? this.storage.read(KEY);
    return typeof key === "string" ? key : "";
  }

  get keyRemembered() {
    return typeof this.storage.read(KEY) === "string";
  }

  setKey(key, remember) {
    this.session.remove(KEY);
    this.storage.remove(KEY);
    if (key) (remember ? this.storage : this.session).write(KEY, key);
  }
}

/** Only known fields of the right kind and range: what is stored may be of another version, or typed by hand. */
function valid(values) {
  const checks = {
    model: isText,
    system: isText,
    temperature: (value) => Number.isFinite(value) && value >= 0 && value <= 2,
    maxTokens: (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 31,
    theme: (value) => ["", "light", "dark"].includes(value),
    language: (value) => ["", "en", "zh"].includes(value),
  };
  const entries = Object.entries(values ?? {}).filter(([name, value]) => checks[name]?.(value));
  return Object.fromEntries(entries);
}

function isText(value) {
  return typeof value === "string";
}

/** A key can be sent only if it is plain ASCII without spaces. */
export function isKey(text) {
  return /^[\x21-\x7e]+$/.test(text);
}
