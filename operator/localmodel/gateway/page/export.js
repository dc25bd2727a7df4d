// Conversations as files: one as text that people read (Markdown), all of them as JSON that programs read.

import { titleOf } from "./conversations.js";
import { t } from "./language.js";

export function asMarkdown(conversation) {
  const turns = conversation.messages.map(({ role, content }) => `## ${t(role === "user" ? "you" : "answer")}\n\n${content}\n`);
  return [`# ${titleOf(conversation)}\n`, `${new Date(conversation.created).toISOString()}\n`, ...turns].join("\n");
}

export function asJson(conversations) {
  return `${JSON.stringify({ format: "localmodel-conversations", version: 1, conversations }, null, 1)}\n`;
}

/** A name that every file system takes. */
export function fileName(title, kind) {
  const plain = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `${plain || "conversation"}.${kind}`;
}

export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
