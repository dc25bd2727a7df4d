// Puts the page together. The only module that knows all the others.

import { listModels } from "./api.js";
import { Announcer } from "./announcer.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Conversations, newConversation, titleOf } from "./conversations.js";
import { KeyDialog, confirmDeletion, connectSettings } from "./dialogs.js";
import { asJson, asMarkdown, download, fileName } from "./export.js";
import { Drawer, History } from "./history.js";
import { chooseLanguage, t, translate } from "./language.js";
import { MessageList } from "./messages.js";
import { showProblem } from "./problem-box.js";
import { element } from "./render.js";
import { Settings } from "./settings.js";
import { SafeStorage } from "./storage.js";

const OPEN = "localmodel.open";
const EXAMPLES = ["example1", "example2", "example3"];
const byId = (id) => document.getElementById(id);

const storage = new SafeStorage("localStorage", () => say(t("storageTrouble")));
const session = new SafeStorage("sessionStorage");
const settings = new Settings(storage, session);
chooseLanguage(settings.values.language, navigator.languages);
translate(document);

const conversations = new Conversations(storage);
const drawer = new Drawer();
const keyDialog = new KeyDialog(settings);
const history = new History(conversations, { open: (id) => open(conversations.get(id)), remove });
const chat = new Chat({
  conversations,
  settings,
  list: new MessageList(byId("messages"), byId("scroll")),
  announcer: new Announcer(byId("spoken")),
  on: {
    busy: (busy) => (composer.busy = busy),
    changed: refresh,
    key: () => keyDialog.open(() => chat.again(), { refused: true }),
    fresh: () => open(newConversation()),
    settings: openSettings,
    models: async () => {
      await loadModels();
      byId("model").focus();
    },
  },
});
const composer = new Composer({ ask: (text) => chat.ask(text), stop: () => chat.stop() });

async function open(conversation) {
  await chat.open(conversation ?? newConversation());
  drawer.close();
  refresh();
  // On a touch screen the focus would open the keyboard over half of the page.
  if (!matchMedia("(pointer: coarse)").matches) byId("question").focus();
}

function refresh() {
  const empty = chat.conversation.messages.length === 0;
  byId("welcome").hidden = !empty;
  byId("export").hidden = empty;
  document.title = empty ? "LocalModel" : `${titleOf(chat.conversation)} · LocalModel`;
  history.show(chat.conversation.id);
  session.write(OPEN, chat.conversation.id);
}

/** Another page of this browser wrote. While an answer comes here, what it wrote is shown in the list only. */
async function follow() {
  const { id, messages, updated } = chat.conversation;
  const kept = conversations.get(id);
  if (!kept && messages.length > 0) {
    await chat.stop();
    conversations.remove(id);
    await open(newConversation());
  } else if (kept && kept.updated !== updated && !chat.busy) await open(kept);
  else history.show(id);
}

async function remove(conversation) {
  if (!(await confirmDeletion(t("confirmDelete", { title: titleOf(conversation) })))) return;
  if (conversation.id === chat.conversation.id) {
    await chat.stop();
    conversations.remove(conversation.id);
    await open(newConversation());
  } else {
    conversations.remove(conversation.id);
    refresh();
  }
}

async function removeAll() {
  if (!(await confirmDeletion(t("confirmDeleteAll", { count: conversations.all().length })))) return;
  await chat.stop();
  conversations.clear();
  await open(newConversation());
}

function say(...words) {
  byId("notice").replaceChildren(...words.map((each) => element("p", { role: "status" }, each)));
  byId("notice").hidden = words.length === 0;
}

async function loadModels() {
  try {
    showModels(await listModels(settings.key));
    say();
  } catch (problem) {
    say();
    byId("notice").hidden = false;
    const offers = { retry: loadModels, key: askKey, models: loadModels, new: loadModels, settings: openSettings };
    showProblem(byId("notice"), problem, offers);
    if (problem.code === "invalid_api_key") askKey();
  }
}

function askKey() {
  keyDialog.open(loadModels, { refused: true });
}

function openSettings() {
  byId("open-settings").click();
}

function showModels(names) {
  const chosen = names.includes(settings.values.model) ? settings.values.model : (names[0] ?? "");
  const options = names.map((name) => element("option", { value: name }, name));
  byId("model").replaceChildren(...(options.length ? options : [element("option", { value: "" }, t("noModel"))]));
  byId("model").value = chosen;
  byId("model").disabled = names.length === 0;
  if (chosen !== settings.values.model) settings.set({ model: chosen });
}

function setTheme(theme) {
  settings.set({ theme });
  document.dispatchEvent(new CustomEvent("themechange", { detail: theme }));
}

function setLanguage(language) {
  settings.set({ language });
  chooseLanguage(language, navigator.languages);
  translate(document);
  showExamples();
  composer.busy = chat.busy;
  if (!chat.busy) open(chat.conversation);
}

function showExamples() {
  const rows = EXAMPLES.map((name) => {
    const button = element("button", { type: "button", class: "example" }, t(name));
    button.addEventListener("click", () => composer.put(button.textContent));
    return element("li", {}, button);
  });
  byId("examples").replaceChildren(...rows);
}

byId("new").addEventListener("click", () => open(newConversation()));
byId("model").addEventListener("change", () => settings.set({ model: byId("model").value }));
byId("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
byId("delete-all").addEventListener("click", removeAll);
byId("export-all").addEventListener("click", () => download("conversations.json", asJson(conversations.all()), "application/json"));
byId("export").addEventListener("click", () => {
  download(fileName(titleOf(chat.conversation), "md"), asMarkdown(chat.conversation), "text/markdown");
});
connectSettings(settings, { theme: setTheme, language: setLanguage, key: () => keyDialog.open(loadModels) });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (drawer.isOpen) drawer.close();
  else chat.stop();
});
addEventListener("pagehide", () => chat.keep());
addEventListener("storage", follow);

showExamples();
await open(conversations.get(session.read(OPEN)));
await loadModels();
