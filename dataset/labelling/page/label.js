// Shows one photo at a time. The server assigns the photos and refuses decisions that would overwrite a newer one.

import { Shortcuts } from "/common/keys.js";
import { display, preload, reasonOf } from "/common/photos.js";
import { Zoom } from "/common/zoom.js";

const RENEW_MS = 20_000;  // a lease lasts 60 s
const POLL_MS = 1_500;    // while waiting for a suggestion, or for a photo that another person has open
const TIMEOUT_MS = 15_000;

const $ = (id) => document.getElementById(id);
const page = { state: null, photo: null, busy: true, timer: 0, retry: 0 };
const shortcuts = new Shortcuts({ enabled: () => $("keys").checked, busy: () => page.busy });
const zoom = new Zoom($("stage"), $("photo"));

class Refusal extends Error {
  constructor(error) { super(error.message); this.code = error.code; }
}

async function request(path, body) {
  const options = { signal: AbortSignal.timeout(TIMEOUT_MS) };
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

function client() {  // one per tab; it survives a reload
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
    page.state = await request("/api/state");
    setUp();
    show(await request("/api/turn", {}));
    warn(warning);
  } catch (error) {
    report(error);
  }
}

function setUp() {
  const { labels, aside, task, table, next, by } = page.state;
  $("task").textContent = task;
  $("table").textContent = table;
  $("next").textContent = next;
  $("by").value = sessionStorage.getItem("by") ?? by;
  shortcuts.clear();
  $("labels").classList.toggle("many", labels.length > 8);
  $("labels").replaceChildren(...labels.map(({ label, key, text = label }) => button(text, key, { label })));
  $("aside").replaceChildren(...aside.map((word) => button(word, word[0], { set_aside: word })));
  for (const [id, key, act] of [["undo", "z", undo], ["skip", "s", skip]]) {
    $(id).onclick = act;
    shortcuts.add([key], act, $(id));
  }
  zoom.keys(shortcuts, { arrowright: skip });
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
    shortcuts.add([key], element.onclick, element);
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
  if (photo) return work("/api/skip", { id: photo.id }, () => `${photo.name}: skipped; it will be shown again later.`);
}

function undo() {
  return work("/api/undo", {}, ({ undone }) => `${undone}: decision undone.`);
}

async function work(path, body, describe) {
  if (page.busy) return;  // until the next photo is visible, a key would still be meant for the last one
  page.busy = true;
  document.body.dataset.state = "deciding";
  try {
    const assignment = await request(path, body);
    warn("");
    show(assignment, describe(assignment));
  } catch (error) {
    await report(error);
  }
}

async function report(error) {
  if (error instanceof Refusal) {
    warn(error.message);
    if (error.code === "restarted") return start(error.message);
    if (error.code === "conflict") {
      try { return show(await request("/api/turn", {})); } catch (second) { return report(second); }
    }
    ready();
    return;
  }
  warn(`The server does not answer. All decisions so far are saved. Start it again: ${page.state?.again ?? "python -m dataset label"}`);
  document.body.dataset.state = "loading";
  page.retry = setTimeout(() => start(), 3_000);
}

function show(assignment, message = "") {
  clearTimeout(page.timer);
  showStatus(assignment);
  const { photo, elsewhere } = assignment;
  page.photo = photo;
  const hidden = { work: !photo, wait: photo || !elsewhere, done: photo || elsewhere };
  const focused = document.activeElement;
  for (const [id, hide] of Object.entries(hidden)) $(id).hidden = Boolean(hide);
  if (photo) return showPhoto(assignment, message, focused);
  const title = elsewhere ? $("wait-title") : $("done-title");
  announce(`${message} ${title.textContent}.`);
  if (focused === document.body || focused.closest("#work")) title.focus();
  if (elsewhere) page.timer = setTimeout(poll, POLL_MS);
  ready();
}

function showPhoto({ photo, soon, suggestion = photo.suggestion }, message, focused) {
  document.body.dataset.state = "loading";
  $("name").textContent = photo.name;
  $("placeholder").hidden = true;
  suggest(suggestion);
  zoom.reset();
  display($("photo"), address(photo.id), `Photo ${photo.name}`).then((shown) => {
    if (shown === false) showPlaceholder(photo);
    if (shown) { ready(); preload(soon === null ? null : address(soon)); }
  });
  announce(`${message} ${message ? "Next: " : "Photo: "}${photo.name}.`);
  if (focused.closest(".panel")) $("labels").querySelector("button").focus();
  page.timer = setTimeout(renew, page.scoring && !suggestion ? POLL_MS : RENEW_MS);
}

async function showPlaceholder(photo) {
  const reason = await reasonOf(address(photo.id));
  if (page.photo?.id !== photo.id) return;
  $("photo").hidden = true;
  $("reason").textContent = `${reason[0].toUpperCase()}${reason.slice(1)}.`;
  $("placeholder").hidden = false;
  announce(`${$("said").textContent} It cannot be displayed.`);
  ready();
}

function address(id) {  // the session keeps the browser from showing cached photos of an earlier server
  return `/photo/${id}?${page.state.session}`;
}

async function renew() {  // keeps the photo leased while it is shown; its suggestion may have arrived
  const { photo } = page;
  if (!photo) return;
  try {
    const answer = await request("/api/hold", { id: photo.id });
    if (page.photo !== photo || page.busy) return;
    if (!answer.held) return show(await request("/api/turn", {}), `${photo.name}: another person has it now.`);
    showStatus(answer);
    suggest(answer.suggestion);
    page.timer = setTimeout(renew, answer.scoring && !answer.suggestion ? POLL_MS : RENEW_MS);
  } catch (error) {
    if (page.photo === photo && !page.busy) report(error);
  }
}

async function poll() {
  if (page.busy || page.photo) return;
  try {
    const assignment = await request("/api/turn", {});
    if (page.busy || page.photo) return;
    if (assignment.photo || !assignment.elsewhere) show(assignment);
    else { showStatus(assignment); page.timer = setTimeout(poll, POLL_MS); }
  } catch (error) { report(error); }
}

function showStatus({ progress, scoring, fault }) {
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
    line.append("the model suggests: ", label, ` (${suggestion.percent} %)`);
  } else if (page.scoring) line.textContent = "the model is classifying …";
  else line.textContent = page.fault ?? "";
}

function ready() {
  page.busy = false;
  document.body.dataset.state = "ready";
}

function announce(text) { $("said").textContent = text.trim(); }

function warn(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

$("by").addEventListener("change", () => sessionStorage.setItem("by", $("by").value));
$("keys").checked = localStorage.getItem("keys") !== "off";
$("keys").addEventListener("change", () => localStorage.setItem("keys", $("keys").checked ? "on" : "off"));

start();
