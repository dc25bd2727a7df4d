// Markdown inside a line: code, bold, italic, struck, links. Pure: text in, a tree out, never HTML.
//
// Linear in the text: for each marker it is remembered from where on no closing one follows.

const MAX_DEPTH = 6;
const ESCAPED = /[!-/:-@[-`{-~]/;
const MARKS = [
  ["***", "strong"],
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "del"],
  ["*", "em"],
  ["_", "em"],
];
const SPECIAL = /[\\`*_~[\nhH]/g;
const ADDRESS = /https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+/iy;
const LABELLED = /\[([^[\]\n]{1,500})\]\((https?:\/\/[^\s()<>]{1,2000})\)/iy;

/** Nodes {type, text | children, href}; type is text, code, strong, em, del, link or break. */
export function parseInline(text, depth = 0) {
  const nodes = [];
  const hopeless = new Map();
  let plain = 0;
  let at = 0;
  const push = (node, from, to) => {
    if (from > plain) nodes.push({ type: "text", text: text.slice(plain, from) });
    if (node) nodes.push(node);
    plain = at = to;
  };
  for (;;) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text);
    if (!next) break;
    at = next.index;
    const found = read(text, at, depth, hopeless);
    if (found) push(found.node, at, found.end);
    else at += 1;
  }
  push(null, text.length, text.length);
  return nodes;
}

function read(text, at, depth, hopeless) {
  const sign = text[at];
  if (sign === "\n") return { node: { type: "break" }, end: at + 1 };
  if (sign === "\\") {
    const next = text[at + 1] ?? "";
    return ESCAPED.test(next) ? { node: { type: "text", text: next }, end: at + 2 } : null;
  }
  if (sign === "`") return readCode(text, at, hopeless);
  if (sign === "[") return match(LABELLED, text, at, ([, label, href]) => link(href, label));
  if (sign === "h" || sign === "H") return readAddress(text, at);
  return depth < MAX_DEPTH ? readMark(text, at, depth, hopeless) : null;
}

function readCode(text, at, hopeless) {
  let end = at;
  while (text[end] === "`") end += 1;
  const fence = text.slice(at, end);
  if (at >= (hopeless.get(fence) ?? Infinity)) return skip(fence, end);
  for (let close = text.indexOf(fence, end); close >= 0; close = text.indexOf(fence, close)) {
    let after = close;
    while (text[after] === "`") after += 1;
    if (after - close === fence.length) {
      const inner = text.slice(end, close);
      const padded = /^ .*[^ ].* $/s.test(inner);
      return { node: { type: "code", text: padded ? inner.slice(1, -1) : inner }, end: after };
    }
    close = after;
  }
  hopeless.set(fence, at);
  return skip(fence, end);
}

function skip(text, end) {
  return { node: { type: "text", text }, end };
}

function readMark(text, at, depth, hopeless) {
  for (const [mark, type] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const start = at + mark.length;
    if (!opens(text, at, start, mark) || at >= (hopeless.get(mark) ?? Infinity)) continue;
    const close = findClose(text, start, mark);
    if (close < 0) hopeless.set(mark, at);
    else if (close > start) {
      const children = parseInline(text.slice(start, close), depth + 1);
      return { node: { type, children }, end: close + mark.length };
    }
  }
  return null;
}

function opens(text, at, start, mark) {
  if (/\s/.test(text[start] ?? " ") || text[start] === mark[0]) return false;
  return mark[0] !== "_" || !/[\p{L}\p{N}_]/u.test(text[at - 1] ?? " ");
}

function findClose(text, start, mark) {
  for (let at = text.indexOf(mark, start); at >= 0; at = text.indexOf(mark, at + mark.length)) {
    const word = mark[0] === "_" && /[\p{L}\p{N}_]/u.test(text[at + mark.length] ?? " ");
    if (mark.length === 1 && text[at + 1] === mark) at += 1;
    else if (!/\s/.test(text[at - 1]) && text[at - 1] !== "\\" && !word) return at;
  }
  return -1;
}

function readAddress(text, at) {
  if (/[\p{L}\p{N}]/u.test(text[at - 1] ?? " ")) return null;
  return match(ADDRESS, text, at, ([address]) => {
    const href = address.replace(/[.,;:!?)\]}*_]+$/, "");
    return { ...link(href, href), end: at + href.length };
  });
}

function match(pattern, text, at, build) {
  pattern.lastIndex = at;
  const found = pattern.exec(text);
  return found && { end: at + found[0].length, ...build(found) };
}

function link(href, label) {
  return { node: { type: "link", href, children: [{ type: "text", text: label }] } };
}
