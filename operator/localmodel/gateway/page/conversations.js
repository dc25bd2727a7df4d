// Conversations, kept in this browser and nowhere else: one entry each, and no page overwrites what another has written.

const PREFIX = "localmodel.conversation.";
const TITLE_LENGTH = 80;
const ROLES = ["user", "assistant"];

export class Conversations {
  constructor(storage) {
    this.storage = storage;
  }

  /** Newest first. What is no conversation is left alone. */
  all() {
    return this.storage
      .keys()
      .filter((key) => key.startsWith(PREFIX))
      .map((key) => this.get(key.slice(PREFIX.length)))
      .filter(Boolean)
      .sort((a, b) => b.updated - a.updated);
  }

  get(id) {
    const found = this.storage.read(PREFIX + id);
    return isConversation(found) ? found : null;
  }

  /** Where another page went on with the same one, this one is kept beside it, under an id of its own. */
  save(conversation) {
    const kept = this.get(conversation.id);
    if (kept && kept.updated !== conversation.updated) conversation.id = newId();
    conversation.updated = Math.max(Date.now(), conversation.updated + 1);
    this.storage.write(PREFIX + conversation.id, conversation);
  }

  remove(id) {
    this.storage.remove(PREFIX + id);
  }

  clear() {
    for (const { id } of this.all()) this.remove(id);
  }
}

export function newConversation() {
  return { id: newId(), created: Date.now(), updated: Date.now(), messages: [] };
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");
}

/** Empty while nothing was asked. */
export function titleOf(conversation) {
  const question = conversation.messages.find((message) => message.role === "user")?.content ?? "";
  const line = question.trim().replace(/\s+/g, " ");
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1)}…` : line;
}

/** What the model is sent: the system prompt, then every question with its answer; an empty answer leaves both out. */
export function promptOf(conversation, systemPrompt) {
  const system = systemPrompt.trim() ? [{ role: "system", content: systemPrompt.trim() }] : [];
  const turns = conversation.messages.filter((message, at, all) => {
    const unanswered = all[at + 1]?.role === "assistant" && all[at + 1].content === "";
    return message.content !== "" && !unanswered;
  });
  return [...system, ...turns.map(({ role, content }) => ({ role, content }))];
}

function isConversation(value) {
  return (
    typeof value?.id === "string" &&
    Number.isFinite(value.updated) &&
    Array.isArray(value.messages) &&
    value.messages.every((message) => ROLES.includes(message?.role) && typeof message.content === "string")
  );
}
