// Markdown's blocks: headings, lists, quotes, tables, fenced code, rules, paragraphs. Pure: text in, a tree out, never HTML.

const MAX_DEPTH = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6}) +(\S.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const QUOTE = /^ {0,3}> ?/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * Blocks, each with `source`, the lines it was read from: a block whose source is unchanged need not be drawn again.
 * code {lang, text} · heading {level, text} · rule · quote {blocks} · list {ordered, start, items: blocks[]} ·
 * table {align, head, rows} · paragraph {text}
 */
export function parseBlocks(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const { block, end } = readBlock(lines, at, depth);
    blocks.push({ ...block, source: lines.slice(at, end).join("\n") });
    at = end;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return { block: { type: "heading", level: heading[1].length, text: heading[2].trimEnd().replace(/ #+$/, "") }, end: at + 1 };
  if (RULE.test(line)) return { block: { type: "rule" }, end: at + 1 };
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return readQuote(lines, at, depth);
    if (ITEM.test(line)) return readList(lines, at, depth);
  }
  return isTable(lines, at) ? readTable(lines, at) : readParagraph(lines, at, depth);
}

function readCode(lines, at, [, fence, info]) {
  const lang = info.trim().split(" ")[0];
  const closes = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closes.test(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).join("\n");
  return { block: { type: "code", lang, text }, end: Math.min(end + 1, lines.length) };
}

function readQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { block: { type: "quote", blocks: parseBlocks(inner.join("\n"), depth + 1) }, end };
}

function readList(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || /\d/.test(item[2]) !== ordered || RULE.test(lines[end])) break;
    const read = readItem(lines, end, item);
    items.push(parseBlocks(read.text, depth + 1));
    end = read.end;
  }
  return { block: { type: "list", ordered, start: Number.parseInt(first[2], 10) || 0, items }, end };
}

/** An item goes on while lines are indented, or follow its text without a blank line. */
function readItem(lines, at, item) {
  const width = item[0].length;
  const inner = [lines[at].slice(width)];
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const indent = line.length - line.trimStart().length;
    if (line.trim() === "") {
      const next = lines[end + 1] ?? "";
      if (!next.startsWith("  ") && !ITEM.test(next)) break;
      inner.push("");
    } else if (indent >= Math.min(width, 2)) {
      inner.push(line.slice(Math.min(indent, width)));
    } else if (ITEM.test(line) || inner[inner.length - 1] === "" || interrupts(line)) {
      break;
    } else {
      inner.push(line);
    }
  }
  return { text: inner.join("\n"), end };
}

function interrupts(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line);
}

function isTable(lines, at) {
  const rule = lines[at + 1];
  if (rule === undefined || !lines[at].includes("|") || !rule.includes("-") || !TABLE_RULE.test(rule)) return false;
  return cells(lines[at]).length === cells(rule).length;
}

function readTable(lines, at) {
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map((cell) => {
    if (!cell.endsWith(":")) return "";
    return cell.startsWith(":") ? "center" : "right";
  });
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => head.map((_, column) => cells(line)[column] ?? ""));
  return { block: { type: "table", align, head, rows }, end };
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, "|"));
}

function readParagraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !interrupts(lines[end])) {
    if ((depth < MAX_DEPTH && ITEM.test(lines[end]) && !/^ *\d{1,9}[.)] *$/.test(lines[end])) || isTable(lines, end)) break;
    end += 1;
  }
  return { block: { type: "paragraph", text: lines.slice(at, end).map((line) => line.trim()).join("\n") }, end };
}
