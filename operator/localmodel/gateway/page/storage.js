// The browser's two stores, which may be full, blocked or hold rubbish: then values live as long as the page, and it says so.

export class SafeStorage {
  #area;
  #memory = new Map();

  constructor(name, onTrouble = () => {}) {
    this.onTrouble = onTrouble;
    try {
      this.#area = globalThis[name];
    } catch {
      this.#area = undefined;
    }
  }

  read(key) {
    if (this.#memory.has(key)) return this.#memory.get(key);
    try {
      return JSON.parse(this.#area?.getItem(key) ?? "null");
    } catch {
      return null;
    }
  }

  write(key, value) {
    try {
      this.#area.setItem(key, JSON.stringify(value));
      this.#memory.delete(key);
    } catch {
      this.#memory.set(key, value);
      this.onTrouble();
    }
  }

  remove(key) {
    this.#memory.delete(key);
    try {
      this.#area?.removeItem(key);
    } catch {
      // A blocked store holds nothing.
    }
  }

  keys() {
    const kept = [];
    try {
      for (let at = 0; at < (this.#area?.length ?? 0); at += 1) kept.push(this.#area.key(at));
    } catch {
      // A blocked store holds nothing.
    }
    return [...new Set([...kept, ...this.#memory.keys()])];
  }
}
