// One photo at a time. The server decides what comes next and refuses what would overwrite somebody.

const HOLD = 20_000;     // a lease lasts 60 s
const LOOK = 1_500;      // while the model is still looking at photos, or others have the last ones
const PATIENCE = 15_000;

const $ = (id) => document.getElementById(id);
const shortcuts = new Map();
const page = { state: null, photo: null, busy: true, timer: 0, retry: 0 };

class Refusal extends Error {
  constructor(error) { super(error.message); this.code = error.code; }
}

async function ask(path, body) {
  const options = { signal: AbortSignal.timeout(PATIENCE) };
  if (body) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "X-Labelling": page.state.session };
    options.body = JSON.stringify({ client: client(), ...body });
  }
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Refusal(content.error);
  return content;
}

function client() {  // one a tab; it outlives a reload
  let name = sessionStorage.getItem("client");
  if (!name) {
    name = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("client", name);
  }
  return name;
}

async function start(warning = "") {
  clearTimeout(page.retry);
  page.busy = true;
  try {
    page.state = await ask("/api/state");
    furnish();
    show(await ask("/api/turn", {}));
    warn(warning);
  } catch (error) {
    complain(error);
  }
}

function furnish() {
  const { labels, aside, task, table, next, by } = page.state;
  $("task").textContent = task;
  $("table").textContent = table;
  $("next").textContent = next;
  $("by").value = sessionStorage.getItem("by") ?? by;
  shortcuts.clear();
  $("labels").classList.toggle("many", labels.length > 8);
  $("labels").replaceChildren(...labels.map(({ label, key }) => button(label, key, { label })));
  $("aside").replaceChildren(...aside.map((word) => button(word, word[0], { set_aside: word })));
  for (const [id, keys, act] of [["undo", ["z"], undo], ["skip", ["s", "arrowright"], skip]]) {
    $(id).onclick = act;
    keys.forEach((key) => shortcuts.set(key, { act, element: $(id) }));
  }
  $("undo-last").onclick = undo;
}

function button(text, key, decision) {
  const element = document.createElement("button");
  const name = document.createElement("span");
  name.textContent = text;
  element.type = "button";
  element.append(name);
  element.onclick = () => decide(decision, text);
  if (key) {
    const cap = document.createElement("kbd");
    cap.textContent = key;
    cap.setAttribute("aria-hidden", "true");
    element.append(cap);
    element.setAttribute("aria-keyshortcuts", key);
    shortcuts.set(key, { act: element.onclick, element });
  }
  return element;
}

function decide(decision, text) {
  const { photo } = page;
  if (!photo) return;
  const what = decision.label ? text : `set aside as ${text}`;
  return work("/api/decide", { id: photo.id, revision: photo.revision, by: $("by").value, ...decision },
    () => `${photo.name}: ${what}.`);
}

function skip() {
  const { photo } = page;
  if (photo) return work("/api/skip", { id: photo.id }, () => `${photo.name}: skipped, it comes again later.`);
}

function undo() {
  return work("/api/undo", {}, ({ undone }) => `${undone}: taken back.`);
}

async function work(path, body, told) {
  if (page.busy) return;  // until the next photo is seen, a key would still mean the last one
  page.busy = true;
  document.body.dataset.state = "deciding";
  try {
    const turn = await ask(path, body);
    warn("");
    show(turn, told(turn));
  } catch (error) {
    await complain(error);
  }
}

async function complain(error) {
  if (error instanceof Refusal) {
    warn(error.message);
    if (error.code === "restarted") return start(error.message);
    if (error.code === "conflict") {
      try { return show(await ask("/api/turn", {})); } catch (second) { return complain(second); }
    }
    ready();
    return;
  }
  warn(`The server does not answer; every decision so far is in the table. Start it again: ${page.state?.again ?? "python -m dataset label"}`);
  document.body.dataset.state = "loading";
  page.retry = setTimeout(() => start(), 3_000);
}

function show(turn, told = "") {
  clearTimeout(page.timer);
  stand(turn);
  page.photo = turn.photo;
  const hidden = { work: !turn.photo, wait: turn.photo || !turn.elsewhere, done: turn.photo || turn.elsewhere };
  const before = document.activeElement;
  for (const [id, off] of Object.entries(hidden)) $(id).hidden = Boolean(off);
  if (turn.photo) return showPhoto(turn, told, before);
  const title = turn.elsewhere ? $("wait-title") : $("done-title");
  say(`${told} ${title.textContent}.`);
  if (before === document.body || before.closest("#work")) title.focus();
  if (turn.elsewhere) page.timer = setTimeout(look, LOOK);
  ready();
}

function showPhoto({ photo, soon, suggestion = photo.suggestion }, told, before) {
  document.body.dataset.state = "loading";
  $("name").textContent = photo.name;
  $("placeholder").hidden = true;
  suggest(suggestion);
  const image = $("photo");
  image.hidden = false;
  image.alt = `Photo ${photo.name}`;
  image.onload = () => { ready(); preload(soon); };
  image.onerror = () => unseen(photo);
  image.src = address(photo.id);
  say(`${told} ${told ? "Next: " : "Photo: "}${photo.name}.`);
  if (before.closest(".panel")) $("labels").querySelector("button").focus();
  page.timer = setTimeout(hold, page.scoring && !suggestion ? LOOK : HOLD);
}

async function unseen(photo) {
  let reason = "the server does not answer";
  try {
    const answer = await fetch(address(photo.id));
    reason = answer.ok ? "the browser cannot show it" : (await answer.json()).error.message;
  } catch { /* the reason stays */ }
  if (page.photo?.id !== photo.id) return;
  $("photo").hidden = true;
  $("reason").textContent = `${reason[0].toUpperCase()}${reason.slice(1)}.`;
  $("placeholder").hidden = false;
  say(`${$("said").textContent} It cannot be shown.`);
  ready();
}

function address(id) {  // the session keeps a restarted server's photos apart in the browser's cache
  return `/photo/${id}?${page.state.session}`;
}

function preload(id) {
  if (id !== null) new Image().src = address(id);
}

async function hold() {  // what is looked at stays ours, and the suggestion may have come
  const { photo } = page;
  if (!photo) return;
  try {
    const answer = await ask("/api/hold", { id: photo.id });
    if (page.photo !== photo || page.busy) return;
    if (!answer.held) return show(await ask("/api/turn", {}), `${photo.name}: somebody else has it now.`);
    stand(answer);
    suggest(answer.suggestion);
    page.timer = setTimeout(hold, answer.scoring && !answer.suggestion ? LOOK : HOLD);
  } catch (error) {
    if (page.photo === photo && !page.busy) complain(error);
  }
}

async function look() {
  if (page.busy || page.photo) return;
  try {
    const turn = await ask("/api/turn", {});
    if (page.busy || page.photo) return;
    if (turn.photo || !turn.elsewhere) show(turn);
    else { stand(turn); page.timer = setTimeout(look, LOOK); }
  } catch (error) { complain(error); }
}

function stand({ progress, scoring, fault }) {
  $("bar").max = progress.total;
  $("bar").value = progress.decided;
  $("progress").textContent = $("summary").textContent = progress.text;
  document.title = `${progress.decided}/${progress.total} · Label photos`;
  Object.assign(page, { scoring, fault });
}

function suggest(suggestion) {
  const line = $("suggestion");
  line.replaceChildren();
  if (suggestion) {
    const label = document.createElement("b");
    label.textContent = suggestion.label;
    line.append("model says: ", label, ` (${suggestion.percent} %)`);
  } else if (page.scoring) line.textContent = "the model is looking …";
  else line.textContent = page.fault ?? "";
}

function ready() {
  page.busy = false;
  document.body.dataset.state = "ready";
}

function say(text) { $("said").textContent = text.trim(); }

function warn(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input:not([type=checkbox]), textarea, select");
  if (typing || !$("keys").checked || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const found = shortcuts.get(event.key.toLowerCase());
  if (!found) return;
  event.preventDefault();
  if (event.repeat || page.busy) return;
  found.element.classList.add("hit");
  setTimeout(() => found.element.classList.remove("hit"), 180);
  found.act();
});
$("by").addEventListener("change", () => sessionStorage.setItem("by", $("by").value));
$("keys").checked = localStorage.getItem("keys") !== "off";
$("keys").addEventListener("change", () => localStorage.setItem("keys", $("keys").checked ? "on" : "off"));

start();
