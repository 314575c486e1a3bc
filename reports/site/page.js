"use strict";
const words = JSON.parse(document.getElementById("words").textContent);
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const regions = new Map();
for (const row of data.shares) regions.set(row.region, [...(regions.get(row.region) || []), row]);
const weeks = regions.get("CN").map((row) => row.week);
const MOST_ROWS = 300;
let language = (navigator.language || "").startsWith("zh") ? "zh" : "en";
let chosen = "CN";

const t = (key) => words[language][key];
const filled = (key, values) => t(key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
const name = () => data.names[language];
const place = (row) => row["region_" + language];
const PERCENT = new Set(["raw", "raw_low", "raw_high", "corrected", "low", "high", "by_institution"]);
const text = (value, column) => (value === null || value === undefined || value === "" ? t("cannot") : PERCENT.has(column) ? value.toFixed(1) : String(value));
const best = (row) => (row.corrected === null ? [row.raw, row.raw_low, row.raw_high] : [row.corrected, row.low, row.high]);
const enough = (row) => row && row.note !== "too few" && best(row)[0] !== null;

function element(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "text", "circle"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawTexts() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const one of document.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t);
  document.title = $("title").textContent = filled("title", { name: name() });
  $("period").textContent = filled("period", data.facts);
  $("language").textContent = t("switch");
  $("language").lang = language === "zh" ? "en" : "zh-CN";
  $("theme").textContent = t("theme");
}

function drawSummary() {
  const speed = data.regions.find((row) => row.region === "CN");
  const country = regions.get("CN").filter(enough);
  const said = (key, row) => filled(key, { week: row.week, name: name(), value: best(row)[0], low: best(row)[1], high: best(row)[2] });
  const lines = [];
  if (speed) lines.push(filled("moved_line", speed));
  if (speed && speed.days_to_half !== null) lines.push(filled("half_line", speed));
  if (speed && speed.days_to_most !== null) lines.push(filled("most_line", speed));
  if (country.length) {
    lines.push(said("peak_line", country.reduce((a, b) => (best(b)[0] > best(a)[0] ? b : a))));
    lines.push(said("share_line", country[country.length - 1]));
  }
  if (data.facts.uncorrected) lines.push(t(data.facts.uncorrected));
  $("summary").replaceChildren(...lines.map((line) => element("li", {}, line)));
}

function drawMap() {
  const week = Number($("week").value);
  $("week").setAttribute("aria-valuetext", weeks[week]);
  $("shown").textContent = `${weeks[week]} (${regions.get("CN")[week].monday})`;
  $("map").replaceChildren(...data.tiles.map((tile) => drawTile(tile, (regions.get(tile.code) || [])[week])));
  const steps = ["0–10", "10–20", "20–40", "40–60", "60–80", "80–100 %"].map((label, step) => element("span", { class: "s" + step }, label));
  $("legend").replaceChildren(...steps, element("span", { class: "none" }, t("too_few")));
}

function drawTile(tile, row) {
  const known = enough(row);
  const value = known ? best(row)[0] : null;
  const step = [10, 20, 40, 60, 80].filter((bound) => value >= bound).length;
  const label = known ? `${value} %` : t("cannot");
  const place = language === "zh" ? tile.zh : tile.en;
  const made = element("button", { type: "button", class: "tile " + (known ? "s" + step : "none"), "aria-pressed": String(tile.code === chosen),
    "data-code": tile.code, "data-value": known ? value : "", style: `grid-column:${tile.column + 1};grid-row:${tile.row + 1}`,
    "aria-label": `${place}: ${known ? `${value} % (${best(row)[1]}–${best(row)[2]})` : t("too_few")}` },
    element("b", { "aria-hidden": "true" }, language === "zh" ? tile.zh : tile.code), element("span", { "aria-hidden": "true" }, label));
  made.addEventListener("click", () => { choose(tile.code === chosen || !regions.has(tile.code) ? "CN" : tile.code); $("map").querySelector(`[data-code="${tile.code}"]`).focus(); });
  return made;
}

function choose(region) {
  chosen = region;
  $("region").value = region;
  drawMap();
  drawRegion();
}

function drawRegion() {
  const rows = regions.get(chosen);
  const [width, height, left, bottom] = [800, 300, 44, 34];
  const x = (index) => left + (index + 0.5) * (width - left - 8) / rows.length;
  const y = (value) => 8 + (100 - value) * (height - bottom - 8) / 100;
  const label = `${place(rows[0])}: ` + rows.filter(enough).map((row) => `${row.week} ${best(row)[0]} %`).join(", ");
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of [0, 25, 50, 75, 100]) {
    svg.append(element("line", { class: "grid", x1: left, x2: width - 8, y1: y(value), y2: y(value) }), element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, `${value} %`));
  }
  const every = Math.ceil(rows.length / 9);
  rows.forEach((row, index) => { if (index % every === 0) svg.append(element("text", { x: x(index), y: height - 10, "text-anchor": "middle" }, row.week)); });
  for (const run of runs(rows, enough)) {
    const up = run.map((index) => `${x(index)},${y(best(rows[index])[2])}`);
    const down = run.map((index) => `${x(index)},${y(best(rows[index])[1])}`).reverse();
    svg.append(element("path", { class: "band", d: `M${up.join("L")}L${down.join("L")}Z` }), line(run, (index) => best(rows[index])[0], "line"));
    for (const index of run) svg.append(element("circle", { class: "dot", cx: x(index), cy: y(best(rows[index])[0]), r: 3 }));
  }
  for (const run of runs(rows, (row) => row.raw !== null)) svg.append(line(run, (index) => rows[index].raw, "raw"));
  const now = x(Number($("week").value));
  svg.append(element("line", { class: "now", x1: now, x2: now, y1: 8, y2: height - bottom }));
  $("chart").replaceChildren(svg);
  const columns = ["week", "photos", "errors", "out_of_scope", "duplicates", "counted", "unsure", "positive", "raw", "corrected", "low", "high", "by_institution", "note"];
  fill($("shares"), columns, rows, place(rows[0]), (row, column) => (column === "note" && row.note ? t(row.note.replace(" ", "_")) : row[column]));

  function line(run, value, kind) {
    return element("path", { class: kind, d: "M" + run.map((index) => `${x(index)},${y(value(index))}`).join("L") });
  }
}

function runs(rows, usable) {
  const found = [];
  rows.forEach((row, index) => {
    if (!usable(row)) return;
    const last = found[found.length - 1];
    if (last && last[last.length - 1] === index - 1) last.push(index); else found.push([index]);
  });
  return found;
}

function fill(table, columns, rows, caption, value) {
  const numeric = (column) => rows.some((row) => typeof row[column] === "number");
  const head = element("tr", {}, ...columns.map((column) => element("th", { scope: "col", class: numeric(column) ? "n" : "" }, t("columns")[column])));
  const body = rows.map((row) => element("tr", {}, ...columns.map((column) => element("td", { class: numeric(column) ? "n" : "", "data-column": column }, text(value(row, column), column)))));
  table.replaceChildren(element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
}

function drawSpeeds() {
  const columns = ["region_" + language, "institutions", "moved", "returned", "first", "half", "most", "days_to_half", "days_to_most", "median_days"];
  fill($("speeds"), columns, data.regions, t("speed"), (row, column) => row[column]);
}

function drawInstitutions() {
  const wanted = $("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const match = (row) => wanted.every((word) => [row.institution, row.region_zh, row.region_en, row.region, t("states")[row.state], row.moved].some((cell) => String(cell || "").toLowerCase().includes(word)));
  const rows = data.institutions.filter(match);
  const shown = rows.slice(0, MOST_ROWS);
  $("found").textContent = filled("shown", { n: shown.length, total: rows.length }) + (rows.length > shown.length ? t("more") : "");
  const columns = ["institution", "region_" + language, "photos", "counted", "positive", "state", "moved", "moved_from", "moved_to", "back", "back_from", "back_to"];
  fill($("list"), columns, shown, t("institutions"), (row, column) => (column === "state" ? t("states")[row.state] : row[column]));
}

function drawBasis() {
  const rows = data.basis.flatMap(([key, value]) => [element("dt", {}, t("facts")[key]), element("dd", { "data-fact": key }, value === null ? t(key === "out_of_scope" || key === "scope_range" ? "scope_unknown" : "none") : String(value))]);
  $("basis").replaceChildren(...rows);
}

function draw() {
  drawTexts();
  $("region").replaceChildren(...[...regions.entries()].map(([code, rows]) => element("option", { value: code }, place(rows[0]))));
  drawSummary();
  choose(chosen);
  drawSpeeds();
  drawInstitutions();
  drawBasis();
}

$("week").max = weeks.length - 1;
$("week").value = weeks.length - 1;
$("week").addEventListener("input", () => { drawMap(); drawRegion(); });
$("region").addEventListener("change", (event) => choose(event.target.value));
$("search").addEventListener("input", drawInstitutions);
$("language").addEventListener("click", () => { language = language === "zh" ? "en" : "zh"; draw(); });
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
draw();
document.body.dataset.state = "ready";
