// Draws Markdown as elements and text nodes. Must never set HTML: what a model writes stays text.

import { copyButton } from "./clipboard.js";
import { parseInline } from "./inline.js";
import { parseBlocks } from "./markdown.js";

/** Shows `text` in `root`. While an answer grows, only blocks that changed are drawn again. */
export function renderMarkdown(root, text) {
  const blocks = parseBlocks(text);
  const drawn = root.drawnBlocks ?? [];
  blocks.forEach((block, index) => {
    const old = drawn[index];
    if (old?.source === block.source && old.type === block.type) return;
    if (old && sameCode(old, block)) {
      root.children[index].querySelector("code").textContent = block.text;
    } else if (old) {
      root.children[index].replaceWith(drawBlock(block));
    } else {
      root.append(drawBlock(block));
    }
  });
  while (root.children.length > blocks.length) root.lastElementChild.remove();
  root.drawnBlocks = blocks;
}

function sameCode(old, block) {
  return old.type === "code" && block.type === "code" && old.lang === block.lang;
}

/** An element with attributes and children; a child may be a text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const DRAW = {
  paragraph: ({ text }) => element("p", {}, ...drawInline(text)),
  heading: ({ level, text }) => element(`h${Math.min(level + 2, 6)}`, {}, ...drawInline(text)),
  rule: () => element("hr"),
  quote: ({ blocks }) => element("blockquote", {}, ...blocks.map(drawBlock)),
  list: ({ ordered, start, items }) =>
    element(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : {}, ...items.map(drawItem)),
  code: drawCode,
  table: drawTable,
};

function drawBlock(block) {
  return DRAW[block.type](block);
}

/** A short item is text without a paragraph around it. */
function drawItem(blocks) {
  const [first, ...rest] = blocks;
  if (first?.type !== "paragraph") return element("li", {}, ...blocks.map(drawBlock));
  return element("li", {}, ...drawInline(first.text), ...rest.map(drawBlock));
}

function drawCode({ lang, text }) {
  const code = element("code", {}, text);
  const bar = element("div", { class: "code-bar" }, element("span", {}, lang), copyButton("copyCode", () => code.textContent));
  return element("div", { class: "code" }, bar, element("pre", { tabindex: "0" }, code));
}

function drawTable({ align, head, rows }) {
  const row = (name) => (cells) =>
    element("tr", {}, ...cells.map((cell, at) => element(name, align[at] ? { class: align[at] } : {}, ...drawInline(cell))));
  const table = element("table", {}, element("thead", {}, row("th")(head)), element("tbody", {}, ...rows.map(row("td"))));
  return element("div", { class: "table", tabindex: "0" }, table);
}

function drawInline(text) {
  return parseInline(text).map(drawNode);
}

function drawNode(node) {
  if (node.type === "text") return document.createTextNode(node.text);
  if (node.type === "break") return element("br");
  if (node.type === "code") return element("code", {}, node.text);
  if (node.type === "link") return drawLink(node);
  return element(node.type, {}, ...node.children.map(drawNode));
}

/** A link shows where it leads: its label is the model's word only. */
function drawLink({ href, children }) {
  const label = children[0].text;
  const anchor = element("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, label);
  const host = hostOf(href);
  return label === href || !host ? anchor : element("span", {}, anchor, ` (${host})`);
}

function hostOf(href) {
  try {
    return new URL(href).host;
  } catch {
    return "";
  }
}
