// Shows one photo at a time. The server assigns the photos and refuses decisions that would overwrite a newer one.
// `page.opened` is "list" or "link" while a photo is shown that a person chose, else "".

import { Shortcuts } from "/common/keys.js";
import { display, preload, reasonOf } from "/common/photos.js";
import { Zoom } from "/common/zoom.js";
import { PhotoList } from "/static/list.js";

const RENEW_MS = 20_000;  // a lease lasts 60 s
const POLL_MS = 1_500;    // while waiting for a suggestion, or for a photo that another person has open
const TIMEOUT_MS = 15_000;
const RETRY_MS = 3_000;

const $ = (id) => document.getElementById(id);
const page = { state: null, photo: null, opened: "", suggestion: null, notice: null, busy: true, timer: 0, retry: 0 };
const shortcuts = new Shortcuts({ enabled: () => $("keys").checked, busy: () => page.busy });
const zoom = new Zoom($("stage"), $("photo"));
const list = new PhotoList({
  request, report, words,
  address: (id) => `${address(id)}&small`,
  open: ({ id }) => openPhoto({ id }, "list"),
});

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
    page.notice = null;
    const name = new URLSearchParams(location.search).get("photo");
    try {
      page.opened = name === null ? "" : "link";
      show(await request(name === null ? "/api/turn" : "/api/open", name === null ? {} : { name }));
    } catch (error) {
      if (error.code !== "invalid_request") throw error;
      warning = error.message;  // a link to a photo that is not here
      leave();
      show(await request("/api/turn", {}));
    }
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
  $("labels").replaceChildren(...labels.map(({ label, key }) => button(textOf(label), key, { label }, `label:${label}`)));
  $("aside").replaceChildren(...aside.map((word) => button(word, word[0], { set_aside: word }, `aside:${word}`)));
  list.setKinds([
    ["", "all"], ["undecided", "not labelled yet"],
    ...labels.map(({ label }) => [`label:${label}`, textOf(label)]),
    ...aside.map((word) => [`aside:${word}`, `set aside as ${word}`]),
  ]);
  const openList = () => { list.show(); };
  for (const [id, keys, act] of [
    ["undo", ["z"], undo], ["skip", ["s"], skip], ["accept", ["enter"], accept], ["open-list", ["/", "slash"], openList],
  ]) {
    $(id).onclick = act;
    shortcuts.add(keys, act, $(id));
  }
  shortcuts.add(["escape"], () => page.opened ? skip() : false);
  zoom.keys(shortcuts, { arrowright: skip });
  $("undo-last").onclick = undo;
  $("check-list").onclick = openList;
}

function button(text, key, decision, kind) {
  const element = document.createElement("button");
  const name = document.createElement("span");
  name.textContent = text;
  element.type = "button";
  element.dataset.kind = kind;
  element.append(name);
  element.onclick = () => decide(decision);
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

function textOf(label) {
  const found = page.state.labels.find((row) => row.label === label);
  return found?.text ?? label;
}

function words({ label, set_aside: reason, labelled_by: by }) {
  const decision = label ? textOf(label) : reason ? `set aside as ${reason}` : "not labelled yet";
  return by && (label || reason) ? `${decision} (${by})` : decision;
}

function decide(decision) {
  const { photo } = page;
  if (!photo) return;
  return work("/api/decide", { id: photo.id, revision: photo.revision, by: $("by").value, ...decision },
    () => `${photo.name}: ${words(decision)}.`);
}

function accept() {
  if (!page.suggestion) return false;
  return decide({ label: page.suggestion.label });
}

function skip() {
  const { photo } = page;
  if (page.opened) return work("/api/turn", {}, () => `${photo.name}: not changed.`);
  if (photo) return work("/api/skip", { id: photo.id }, () => `${photo.name}: skipped; it will be shown again later.`);
}

function undo() {
  return work("/api/undo", { by: $("by").value }, ({ undone }) => `${undone}: decision undone.`);
}

async function work(path, body, describe) {
  if (page.busy) return;  // until the next photo is visible, a key would still be meant for the last one
  page.busy = true;
  document.body.dataset.state = "deciding";
  const { opened, photo } = page;
  try {
    const assignment = await request(path, body);
    warn("");
    leave();
    show(assignment, describe(assignment));
    if (opened === "list" && path !== "/api/undo") list.show(photo.id);
  } catch (error) {
    await report(error);
  }
}

async function openPhoto(which, from) {
  page.busy = true;
  try {
    const answer = await request("/api/open", which);
    page.opened = from;
    history.pushState(null, "", link(answer.photo.name));
    warn("");
    show(answer);
  } catch (error) {
    await report(error);
  }
}

function leave() {
  page.opened = "";
  if (location.search) history.replaceState(null, "", "/");
}

function link(name) { return `/?photo=${encodeURIComponent(name)}`; }

function current() {  // the photo that this page shows, or the next one
  return page.opened && page.photo ? request("/api/open", { id: page.photo.id }) : request("/api/turn", {});
}

async function report(error) {
  if (error instanceof Refusal) {
    warn(error.message);
    if (error.code === "restarted") return start(error.message);
    if (error.code === "conflict") {
      try { return show(await current()); } catch (second) { return report(second); }
    }
    if (error.code === "table_invalid") retry(error.message);
    ready();
    return;
  }
  warn(`The server does not answer. All decisions so far are saved. Start it again: ${page.state?.again ?? "python -m dataset label"}`);
  document.body.dataset.state = "loading";
  clearTimeout(page.retry);
  page.retry = setTimeout(() => start(), RETRY_MS);
}

function retry(message) {  // until somebody has mended the table
  clearTimeout(page.retry);
  page.retry = setTimeout(async () => {
    if (page.busy) return retry(message);
    try {
      const assignment = await current();
      if ($("alert").textContent === message) warn("");
      if (!page.busy) show(assignment);
    } catch (error) { report(error); }
  }, RETRY_MS);
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
  $("name").textContent = $("name").title = photo.name;
  $("name").href = link(photo.name);
  $("placeholder").hidden = true;
  $("skip").firstElementChild.textContent = page.opened ? "Back" : "Skip";
  suggest(suggestion);
  zoom.reset();
  display($("photo"), address(photo.id), `Photo ${photo.name}`).then((shown) => {
    if (shown === false) showPlaceholder(photo);
    if (shown) { ready(); preload(soon === null ? null : address(soon)); }
  });
  const now = decided(photo) ? ` It is labelled: ${words(photo)}.` : "";
  announce(`${message} ${message ? "Next: " : "Photo: "}${photo.name}.${now}`);
  if (focused.closest(".panel")) $("labels").querySelector("button").focus();
  page.timer = setTimeout(renew, page.scoring && !suggestion ? POLL_MS : RENEW_MS);
}

function decided({ label, set_aside: reason }) { return Boolean(label || reason); }

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
    if (!answer.held && !page.opened) return show(await request("/api/turn", {}), `${photo.name}: another person has it now.`);
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

function showStatus({ progress, counts, minutes_left: minutes, notice, scoring, fault }) {
  $("bar").max = progress.total;
  $("bar").value = progress.decided;
  $("progress").textContent = $("summary").textContent = progress.text;
  const time = minutes === null ? "" : `, about ${minutes > 90 ? `${Math.round(minutes / 60)} h` : `${minutes} min`}`;
  $("left").textContent = progress.left ? `${progress.left} left${time}` : "";
  document.title = `${progress.decided}/${progress.total} · Label photos`;
  for (const element of document.querySelectorAll("[data-kind]")) element.dataset.count = counts[element.dataset.kind];
  list.setCounts(counts);
  if (page.notice !== null && notice !== page.notice) warn(`${$("alert").textContent} ${notice}`.trim());
  Object.assign(page, { scoring, fault, notice });
}

function suggest(suggestion) {
  const line = $("suggestion");
  const { photo } = page;
  line.replaceChildren();
  page.suggestion = decided(photo) ? null : suggestion;
  const strong = document.createElement("b");
  if (decided(photo)) {
    strong.textContent = words(photo);
    line.append("labelled: ", strong, photo.labelled_at && `, ${new Date(photo.labelled_at).toLocaleString()}`);
  } else if (suggestion) {
    strong.textContent = textOf(suggestion.label);
    line.append("the model suggests: ", strong, ` (${suggestion.percent} %)`);
  } else if (page.scoring) line.textContent = "the model is classifying …";
  else line.textContent = page.fault ?? "";
  $("accept").classList.toggle("absent", !page.suggestion);
  for (const element of document.querySelectorAll("[data-kind]")) {
    const chosen = element.dataset.kind === (photo.label ? `label:${photo.label}` : `aside:${photo.set_aside}`);
    if (chosen) element.setAttribute("aria-pressed", "true"); else element.removeAttribute("aria-pressed");
  }
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

addEventListener("popstate", () => { $("list").close(); start(); });

start();
