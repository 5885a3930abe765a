// The live page: asks the daemon each second and shows the answer, which takes the place of the one
// before. So the page is never older than that, and never grows. It asks nobody else.

import { Chart } from "./chart.js";
import { at, byId, bytes, element, pages, replaceRows, row, setText, span, whole } from "./show.js";

const ASK_MS = 1000; // between an answer and the next question: what happens is shown within two seconds
const ANSWER_MS_MAX = 8000;
const RUNS_SHOWN_MAX = 100;
const TOKEN = "pagesoak-token";
const GOING = new Set(["starting", "preparing", "running", "paused", "stopping"]);
const STEERABLE = new Set(["running", "paused"]);

const state = { run: null, from: 0, to: null, last: null, changes: false, verbs: new Set(), timer: 0, asked: 0 };

// ---- the address: which run, and the token of `pagesoak page`, which is kept out of sight ----

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (said.has("token")) {
    sessionStorage.setItem(TOKEN, said.get("token"));
    said.delete("token");
    history.replaceState(null, "", said.size ? `#${said}` : location.pathname);
  }
  const run = said.get("run");
  if (run !== state.run) {
    state.run = run;
    show(null, null, null);
  }
}

function token() {
  return sessionStorage.getItem(TOKEN);
}

// ---- asking ----

async function ask(path, order) {
  const options = { signal: AbortSignal.timeout(ANSWER_MS_MAX), cache: "no-store" };
  if (order !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "Pagesoak-Token": token() ?? "" };
    options.body = JSON.stringify(order);
  }
  const answer = await fetch(path, options);
  const document = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(document.detail ?? answer.statusText), { status: answer.status });
  return document;
}

function runPath(name, rest = "") {
  return `/v1/runs/${encodeURIComponent(name)}${rest}`;
}

async function look() {
  clearTimeout(state.timer);
  const turn = ++state.asked; // an answer that was overtaken is not shown
  try {
    const { runs } = await ask("/v1/runs");
    if (turn !== state.asked) return;
    showRuns(runs);
    if (state.run === null && runs.length) {
      state.run = runs[0].run;
      markCurrent();
    }
    if (state.run !== null) await lookAtRun(turn);
    setText(byId("status"), "live");
    byId("status").className = "good";
  } catch (error) {
    if (turn !== state.asked) return;
    setText(byId("status"), error.status ? error.message : "the daemon does not answer; asking again");
    byId("status").className = "bad";
  }
  if (turn === state.asked && !document.hidden) state.timer = setTimeout(look, ASK_MS);
}

async function lookAtRun(turn) {
  const query = new URLSearchParams({ from: state.from });
  if (state.to !== null) query.set("to", state.to);
  try {
    const view = await ask(runPath(state.run, `/view?${query}`));
    if (turn !== state.asked) return;
    showView(view);
    if (state.last !== null) state.from = Math.max(0, view.last_seconds - state.last);
  } catch (error) {
    if (error.status === 404) byId("run").hidden = true; // it was removed, or the address names none
    throw error;
  }
}

// ---- showing: the list ----

function showRuns(runs) {
  byId("no-runs").hidden = runs.length > 0;
  const left = runs.length - RUNS_SHOWN_MAX;
  byId("more-runs").hidden = left <= 0;
  setText(byId("more-runs"), `and ${whole(left)} more: pagesoak list`);
  const focused = document.activeElement?.dataset?.run;
  replaceRows(byId("runs"), runs.slice(0, RUNS_SHOWN_MAX).map((run) => {
    const link = element("a", run.run);
    link.href = `#${new URLSearchParams({ run: run.run })}`;
    link.dataset.run = run.run;
    const cell = element("th");
    cell.scope = "row";
    cell.append(link);
    const made = row([cell, stateCell(run), span(run.elapsed_seconds), span(run.duration_seconds), run.scenario, run.policy]);
    made.dataset.run = run.run;
    return made;
  }));
  markCurrent();
  if (focused) document.querySelector(`a[data-run="${CSS.escape(focused)}"]`)?.focus();
}

function stateCell(run) {
  const bad = run.verdict === "fail" || run.verdict === "broken" || run.state === "unclean" || run.state === "refused";
  const words = run.verdict ? `${run.state}: ${run.verdict}` : run.state;
  return element("td", words, bad ? "bad" : run.state === "running" || run.verdict === "pass" ? "good" : "");
}

function markCurrent() {
  for (const made of byId("runs").children) {
    if (made.dataset.run === state.run) made.setAttribute("aria-current", "true");
    else made.removeAttribute("aria-current");
  }
}

// ---- showing: one run ----

let freeChart = null;
let isolatedChart = null;

function charts() {
  if (freeChart === null) {
    freeChart = new Chart(byId("free-chart"), [
      { label: "free", colour: "--free" },
      { label: "high watermark", colour: "--high", dashed: true },
      { label: "low watermark", colour: "--low", dashed: true },
      { label: "min watermark", colour: "--min", dashed: true },
    ], { log: true, label: "MiB (log)" }, zoom);
    isolatedChart = new Chart(byId("isolated-chart"), [
      { label: "isolated", colour: "--isolated", filled: true, stepped: true },
    ], { log: false, label: "MiB" }, zoom);
  }
}

function showView(view) {
  const run = view.run;
  const section = byId("run");
  section.hidden = false;
  section.setAttribute("aria-busy", view.behind > 0 ? "true" : "false");
  charts();
  setText(byId("run-heading"), run.run);
  const reason = run.reason ? ` — ${run.reason}` : "";
  const verdict = run.verdict ? `, ${run.verdict}` : "";
  const behind = view.behind > 0 ? ` (events are being read: ${Math.round((1 - view.behind) * 100)} %)` : "";
  setText(byId("state"), `${run.state}${verdict}: ${run.scenario}, policy ${run.policy}, seed ${run.seed}${reason}${behind}`);
  showActions(run);
  showFigures(run);
  const marks = view.watermark_pages;
  const line = (pagesOfMark) => view.seconds.map(() => (view.zone ? pagesOfMark : null));
  const range = [view.from_seconds, Math.max(view.to_seconds, view.from_seconds + 0.1)];
  const bad = view.failure_seconds;
  freeChart.show(view.seconds, [view.free_pages, line(marks.high), line(marks.low), line(marks.min)], range, view.windows, bad);
  isolatedChart.show(view.isolated_seconds, [view.isolated_pages], range, view.windows, bad);
  const free = view.free_pages;
  const isolated = view.isolated_pages;
  const nothing = GOING.has(run.state) ? "No figures yet." : "No figures are on record.";
  const where = view.zone ? ` of zone ${view.zone}` : "";
  setText(byId("free-words"), free.length
    ? `Now ${pages(free[free.length - 1])}${where}; fewest shown ${pages(Math.min(...free))}; min watermark ${pages(marks.min)}. Shaded: windows, in which pages are isolated (paler where several are drawn as one). Crosses: failures. Mark a part of the chart to see it closer.`
    : nothing);
  setText(byId("isolated-words"), isolated.length
    ? `Now ${pages(isolated[isolated.length - 1])}; most shown ${pages(Math.max(...isolated))}.`
    : nothing);
  showFailures(view.failures);
  byId("no-events").hidden = view.events.length > 0;
  setText(byId("no-events"), view.windows.length ? "Nothing but windows, which the charts show." : "Nothing is on record.");
  byId("feed").hidden = view.events.length === 0;
  replaceRows(byId("events"), view.events.map((event) => row([at(event.seconds), event.kind, event.text])));
}

function counted(name, counts) {
  const made = Object.entries(counts ?? {}).filter(([, count]) => count);
  return made.length ? [[name, made.map(([what, count]) => `${whole(count)} ${what}`).join(", "), ""]] : [];
}

function showFigures(run) {
  const figures = run.summary ?? run.figures;
  const list = [["time", `${span(run.elapsed_seconds ?? figures?.duration_seconds)} of ${span(run.duration_seconds)}`, ""]];
  if (figures) {
    const kills = figures.oom_events;
    const failed = figures.alloc_failures;
    const margin = figures.watermark_margin_pages_min?.min;
    list.push(
      ["killed, isolated", whole(kills.isolated), kills.isolated ? "bad" : "good"],
      ["killed, other", `${whole(kills.fragmented)} fragmented, ${whole(kills.exhausted)} exhausted`, ""],
      ["got nothing", `${whole(failed.isolated)} isolated, ${whole(failed.fragmented + failed.exhausted)} other`, failed.isolated ? "bad" : ""],
      ["least above min", pages(margin), margin < 0 ? "bad" : "good"],
      ["most isolated", pages(figures.isolated_pages_max), ""],
      ["reported", `${bytes(figures.reported_pages * 4096)} in ${whole(figures.report_calls)} calls`, ""],
      ["given back", bytes(figures.punched_bytes), ""],
      ["requests", whole(figures.alloc_requests), ""],
    );
    list.push(...counted("on purpose", figures.faults), ...counted("replaced", figures.restarts));
  }
  byId("figures").replaceChildren(...list.map(([name, value, kind]) => {
    const made = element("div");
    made.append(element("dt", name), element("dd", value, kind));
    return made;
  }));
}

function showFailures(failures) {
  byId("no-failures").hidden = failures.length > 0;
  byId("failures").replaceChildren(...failures.map((failure) => {
    const made = element("li");
    made.append(element("strong", `${at(failure.seconds)}, ${failure.outcome}: `), failure.text);
    return made;
  }));
}

function showActions(run) {
  const may = state.changes && token() !== null;
  const steerable = STEERABLE.has(run.state);
  byId("actions").hidden = !(may && GOING.has(run.state));
  byId("pause").hidden = !(state.verbs.has("pause") && run.state === "running");
  byId("resume").hidden = !(state.verbs.has("resume") && run.state === "paused");
  byId("set-form").hidden = !(state.verbs.has("set") && steerable);
  byId("stop").disabled = run.state === "stopping";
}

// ---- what is shown ----

function show(from, to, last) {
  state.from = from ?? 0;
  state.to = to;
  state.last = last;
  const chosen = last !== null ? String(last) : to === null ? "all" : "";
  for (const button of document.querySelectorAll("[data-last]")) {
    button.setAttribute("aria-pressed", String(button.dataset.last === chosen));
  }
}

function zoom(from, to) {
  show(from, to, null);
  look();
}

// ---- orders ----

async function order(path, document) {
  setText(byId("answer"), "");
  try {
    const answer = await ask(path, document);
    if (answer.run) location.hash = String(new URLSearchParams({ run: answer.run }));
  } catch (error) {
    setText(byId("answer"), error.message);
    byId("run").hidden = false;
  }
  look();
}

function listen() {
  addEventListener("hashchange", () => { readAddress(); look(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  for (const button of document.querySelectorAll("[data-last]")) {
    button.addEventListener("click", () => {
      show(0, null, button.dataset.last === "all" ? null : Number(button.dataset.last));
      look();
    });
  }
  for (const verb of ["pause", "resume", "stop"]) {
    byId(verb).addEventListener("click", () => {
      if (verb !== "stop" || confirm(`Stop ${state.run}? Its results are kept.`)) order(runPath(state.run, `/${verb}`), {});
    });
  }
  byId("set-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const said = new FormData(event.target);
    order(runPath(state.run, "/set"), { [said.get("key")]: said.get("value") });
  });
  byId("start-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const said = [...new FormData(event.target)].filter(([, value]) => value !== "");
    order("/v1/runs", Object.fromEntries(said));
  });
}

async function begin() {
  readAddress();
  listen();
  try {
    const page = await ask("/v1/page");
    const described = await ask("/v1/openapi.json");
    state.changes = page.changes;
    for (const path of Object.keys(described.paths)) {
      const verb = path.match(/^\/v1\/runs\/\{run\}\/(\w+)$/);
      if (verb && described.paths[path].post) state.verbs.add(verb[1]);
    }
    byId("start").hidden = !(page.changes && token() !== null);
    byId("locked").hidden = !(page.changes && token() === null);
    byId("scenarios").replaceChildren(...page.scenarios.map((name) => element("option", name)));
  } catch (error) {
    setText(byId("status"), error.message);
  }
  look();
}

begin();
