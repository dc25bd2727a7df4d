// The list of conversations at the side; on a narrow screen a drawer over the page.

import { titleOf } from "./conversations.js";
import { setLabel, t } from "./language.js";
import { element } from "./render.js";

const ICON = "http://www.w3.org/2000/svg";

export class History {
  /** `on`: {open(id), remove(conversation)} */
  constructor(conversations, on) {
    this.conversations = conversations;
    this.on = on;
    this.root = document.getElementById("history");
  }

  show(currentId) {
    const all = this.conversations.all();
    const focused = document.activeElement?.closest?.("#history li")?.dataset.id;
    this.root.replaceChildren(...all.map((each) => this.#row(each, each.id === currentId)));
    if (focused) (this.root.querySelector(`[data-id="${focused}"] button`) ?? document.getElementById("new")).focus();
    document.getElementById("no-history").hidden = all.length > 0;
    document.getElementById("history-tools").hidden = all.length === 0;
  }

  #row(conversation, current) {
    const title = titleOf(conversation) || t("untitled");
    const open = element("button", { type: "button", class: "open", dir: "auto", title, ...(current && { "aria-current": "true" }) }, title);
    open.addEventListener("click", () => this.on.open(conversation.id));
    const remove = element("button", { type: "button", class: "icon remove", "aria-label": t("deleteOne", { title }) }, icon("i-trash"));
    remove.title = t("delete");
    remove.addEventListener("click", () => this.on.remove(conversation));
    return element("li", { "data-id": conversation.id, ...(current && { class: "current" }) }, open, remove);
  }
}

function icon(name) {
  const svg = document.createElementNS(ICON, "svg");
  const use = document.createElementNS(ICON, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

/** The drawer: closed it can't be reached by keyboard, open it gives the focus back when it closes. */
export class Drawer {
  constructor() {
    this.side = document.getElementById("side");
    this.opener = document.getElementById("open-side");
    this.veil = document.getElementById("veil");
    this.opener.addEventListener("click", () => this.open());
    this.veil.addEventListener("click", () => this.close());
    document.getElementById("close-side").addEventListener("click", () => this.close());
    setLabel(this.opener, "conversations");
  }

  get isOpen() {
    return this.side.classList.contains("shown");
  }

  open() {
    this.#set(true);
    document.getElementById("new").focus();
  }

  close() {
    if (!this.isOpen) return;
    this.#set(false);
    this.opener.focus();
  }

  #set(shown) {
    this.side.classList.toggle("shown", shown);
    this.veil.hidden = !shown;
    document.querySelector("main").inert = shown;
    this.opener.setAttribute("aria-expanded", String(shown));
  }
}
