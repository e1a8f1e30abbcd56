// The status page. Everything shown goes in as text, never as markup; the token stays in this origin's storage (its
// port included) and travels in a header.
"use strict";

const $ = (id) => document.getElementById(id);
const worst = { failing: 0, degraded: 1, unknown: 2, healthy: 3 };
const MAX_EVENTS = 60;
const STRIP = 60;
const MAX_RUNS = 20;
const runColour = {
  succeeded: "healthy", failed: "failing", timed_out: "failing", ineffective: "failing", interrupted: "failing",
  awaiting_approval: "degraded", expired: "degraded", dropped: "degraded",
};

let token = null;
let overview = null;
let histories = new Map();
let runs = [];
let drawing = 0;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// ---- asking

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) {
    forget();
    throw new Error("the token is not known to this hale");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail || `${response.status} ${response.statusText}`);
  }
  return response;
}

const get = (path) => ask(path).then((response) => response.json());

// ---- the token

function start() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    localStorage.setItem("hale-token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = localStorage.getItem("hale-token");
  $("enter").addEventListener("click", enter);
  $("token").addEventListener("keydown", (event) => event.key === "Enter" && enter());
  if (token) run(); else login("");
}

function enter() {
  token = $("token").value.trim();
  $("token").value = "";
  if (!token) return;
  localStorage.setItem("hale-token", token);
  run();
}

function forget() {
  localStorage.removeItem("hale-token");
  token = null;
  login("This token is not known to this hale. It may be of an earlier data directory.");
}

function login(error) {
  for (const id of ["workloads", "targets", "runs", "events"]) $(id).hidden = true;
  $("overall").replaceChildren();
  $("link").textContent = "";
  $("login").hidden = false;
  $("login-error").textContent = error;
  $("token").focus();
}

// ---- following

async function run() {
  $("login").hidden = true;
  let wait = 500;
  let last = null;
  const seen = [];
  while (token) {
    try {
      if (last === null) {
        const page = await get(`/api/v1/events?newest=true&limit=${MAX_EVENTS}`);
        seen.push(...page.events.reverse());
        drawEvents(seen);
        last = page.latest;
      }
      await refresh();
      const response = await ask("/api/v1/events", { headers: { Accept: "text/event-stream", "Last-Event-ID": last } });
      linked(true);
      wait = 500;
      for await (const message of messages(response.body)) {
        if (message.event === "reset") { last = 0; seen.length = 0; continue; }
        if (message.event) continue;
        const event = JSON.parse(message.data);
        last = event.id;
        seen.unshift(event);
        seen.length = Math.min(seen.length, MAX_EVENTS);
        soon(() => drawEvents(seen));
      }
    } catch (error) {
      if (!token) return;
      console.warn(error);
    }
    linked(false);
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, 5000);
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const message = { event: "", data: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) message.event = line.slice(7);
        if (line.startsWith("data: ")) message.data += line.slice(6);
      }
      if (message.data) yield message;
    }
  }
}

// What happens together is drawn together.
let pending = null;
function soon(draw) {
  pending = draw;
  if (drawing) return;
  drawing = setTimeout(async () => {
    drawing = 0;
    pending();
    await refresh().catch(console.warn);
  }, 150);
}

async function refresh() {
  overview = await get("/api/v1/status");
  draw();
  runs = await newestRuns();
  drawRuns();
  // Probe histories of what is not well first, and of not too many.
  const names = [];
  for (const workload of sorted(overview.workloads)) for (const replica of workload.replicas) names.push(replica.name);
  for (const target of sorted(overview.targets)) names.push(target.name);
  const answers = await Promise.allSettled(
    names.slice(0, 40).map(async (name) => [name, (await get(`/api/v1/outcomes/${encodeURIComponent(name)}`)).probes]));
  histories = new Map(answers.filter((it) => it.status === "fulfilled").map((it) => it.value));
  draw();
}

// Those that wait for a person first, however old, then the newest.
async function newestRuns() {
  const [waiting, newest] = await Promise.all(
    [`state=awaiting_approval&limit=${MAX_RUNS}`, `limit=${MAX_RUNS}`].map((query) => get(`/api/v1/runs?${query}`)));
  return [...waiting.runs, ...newest.runs.filter((run) => run.state !== "awaiting_approval")];
}

setInterval(() => { if (token && overview && !document.hidden) refresh().catch(() => {}); }, 3000);

function linked(is) {
  $("link").textContent = is ? "live" : "not connected; trying again";
}

// ---- drawing

const sorted = (list) => [...list].sort((a, b) => worst[a.status] - worst[b.status] || a.name.localeCompare(b.name, "en", { numeric: true }));
const badge = (status) => element("span", { class: `status ${status}` }, status);

// Draws anew without taking the keyboard's place away.
function replace(parent, children) {
  const focused = document.activeElement && parent.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  parent.replaceChildren(...children);
  if (focused) focus(focused);
}

// The button with this key, or what took its place: Resume for Pause.
function focus(key) {
  const swapped = key.replace(/(pause|resume)$/, (verb) => (verb === "pause" ? "resume" : "pause"));
  const find = (it) => document.querySelector(`[data-key="${CSS.escape(it)}"]`);
  (find(key) || find(swapped))?.focus();
}

function draw() {
  const { workloads, targets } = overview;
  const bad = [...workloads, ...targets].filter((it) => it.status !== "healthy").length;
  const count = bad ? `${bad} of ${workloads.length + targets.length} not healthy` : "all is well";
  $("overall").replaceChildren(badge(overview.status), " ", element("span", { class: "dim" }, count));
  document.title = `${overview.status} · hale`;
  $("workloads").hidden = workloads.length === 0;
  $("targets").hidden = targets.length === 0;
  replace($("workload-list"), sorted(workloads).map(drawWorkload));
  replace($("target-list"), targets.length ? [element("div", { class: "card" }, ...sorted(targets).map(drawTarget))] : []);
}

function drawWorkload(workload) {
  const note = workload.note || "";
  const address = workload.address ? element("span", { class: "mono dim" }, workload.address) : null;
  return element("article", { class: "card", "aria-label": workload.name },
    element("div", { class: "row" },
      element("h3", {}, workload.name), badge(workload.status),
      element("span", {}, `${workload.ready} of ${workload.desired} ready`),
      note && element("span", { class: "dim" }, note), address,
      element("span", { class: "row spacer" }, ...buttons("workloads", workload.name, workload.replicas.some((it) => it.paused)))),
    ...workload.replicas.map(drawReplica));
}

function drawReplica(replica) {
  const lines = [];
  const words = [replica.stale && "stale", replica.paused && "paused", replica.flapping && "flapping"].filter(Boolean);
  if (words.length) lines.push(words.join(", "));
  if (replica.held_by) lines.push(`held by ${replica.held_by.by}: ${replica.held_by.reason}`);
  if (replica.next_start_at) lines.push(`next start in ${ago(Date.now(), Date.parse(replica.next_start_at))}`);
  const why = replica.status === "healthy" ? replica.status_text : replica.last_error || replica.last_transition?.reason;
  if (why) lines.push(why);
  const restarts = replica.restarts === 1 ? "1 restart" : `${replica.restarts} restarts`;
  const up = replica.uptime_seconds === null ? "" : `up ${length(replica.uptime_seconds)}`;
  return element("div", { class: "replica" },
    element("span", { class: "name" }, replica.name), badge(replica.status),
    element("span", { class: "facts" }, `${replica.phase}${replica.ready ? "" : ", not ready"}`),
    element("span", { class: "facts dim" }, [restarts, up].filter(Boolean).join(", ")),
    element("span", { class: "why" }, ...lines.map((line) => element("span", { class: "line" }, line))),
    element("span", { class: "row buttons" }, ...buttons("replicas", replica.name, replica.paused)),
    strips(replica.name));
}

function drawTarget(target) {
  const why = target.last_reason ? `${target.last_reason} ×${target.consecutive_failures}${target.last_detail ? `: ${target.last_detail}` : ""}` : "";
  const since = target.since ? `for ${ago(Date.parse(target.since), Date.now())}` : "";
  return element("div", { class: "target" },
    element("span", { class: "name" }, target.name), badge(target.status), element("span", { class: "dim since" }, since),
    element("span", { class: "why" }, [target.paused && "paused", why].filter(Boolean).join("; ")),
    element("span", { class: "row buttons" }, ...buttons("targets", target.name, target.paused)),
    strips(target.name));
}

function resource({ kind, namespace, name }) {
  return `${kind} ${namespace ? `${namespace}/` : ""}${name}`;
}

function drawRuns() {
  $("runs").hidden = runs.length === 0;
  replace($("run-list"), runs.length ? [element("div", { class: "card" }, ...runs.map(drawRun))] : []);
}

function drawRun(run) {
  const button = (text, verb, click) => element("button", { type: "button", "data-key": `runs/${run.id}/${verb}`, "aria-label": `${text} ${run.id}`, onclick: click }, text);
  const waits = run.state === "awaiting_approval";
  const decisions = waits ? [button("Approve", "approve", () => confirmRun("approve", run)), button("Reject", "reject", () => confirmRun("reject", run))] : [];
  const step = run.step ? ` step ${run.step}` : "";
  const left = waits && run.approve_until ? `expires in ${ago(Date.now(), Date.parse(run.approve_until))}` : "";
  const lines = [`${run.fault_type} in ${run.cluster}, rule ${run.rule}${step}`, run.reason, left].filter(Boolean);
  return element("div", { class: "target run" },
    element("span", { class: "name" }, resource(run.resource)),
    element("span", { class: `status ${runColour[run.state] || "unknown"}` }, run.state.replaceAll("_", " ")),
    element("span", { class: "dim since" }, `${ago(Date.parse(run.queued_at), Date.now())} ago`),
    element("span", { class: "why" }, ...lines.map((line) => element("span", { class: "line" }, line))),
    element("span", { class: "row buttons" }, ...decisions, button("Show", "show", () => showRun(run.id))));
}

async function showRun(id) {
  try {
    const { run, alert, stdout, stderr } = await get(`/api/v1/runs/${encodeURIComponent(id)}`);
    const exit = run.signal ? `signal ${run.signal}` : run.exit_code === undefined ? "" : `exit status ${run.exit_code}`;
    const times = [["accepted", run.queued_at], ["started", run.started_at], [`ended${exit && `, ${exit}`}`, run.ended_at], [run.state.replaceAll("_", " "), run.finished_at]];
    const text = (name, content) => (content ? [element("h3", {}, name), element("pre", { tabindex: 0 }, content)] : []);
    open(`Run ${id}`, [
      element("p", {}, `${run.fault_type} of ${resource(run.resource)} in ${run.cluster}`, run.reason ? `: ${run.reason}` : ""),
      run.decided_by ? element("p", { class: "dim" }, `decided by ${run.decided_by}`) : "",
      alert?.message ? element("p", {}, alert.message) : "",
      element("ol", {}, ...times.filter(([, at]) => at).map(([word, at]) => element("li", {},
        element("time", { class: "dim", datetime: at, title: at }, clock(at)), element("span", {}, word)))),
      ...text("Command", run.command.join(" ")), ...text("Standard output, its end", stdout), ...text("Standard error, its end", stderr),
    ].filter(Boolean), []);
  } catch (error) {
    toast(error.message);
  }
}

function strips(name) {
  const probes = histories.get(name) || [];
  return element("div", { class: "strips" }, ...probes.map((probe) => {
    const shown = probe.outcomes.slice(-STRIP);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const last = shown.at(-1);
    const failures = shown.filter((it) => it.reason).length;
    const told = `${probe.probe || "check"}: ${failures} of the last ${shown.length} failed`;
    for (const [name, value] of [["viewBox", `0 0 ${STRIP * 4} 14`], ["preserveAspectRatio", "none"], ["role", "img"], ["aria-label", told]]) svg.setAttribute(name, value);
    for (let index = 0; index < STRIP; index++) {
      const outcome = shown[index - (STRIP - shown.length)];
      const rect = document.createElementNS(svg.namespaceURI, "rect");
      for (const [name, value] of [["x", index * 4], ["width", 3], ["y", outcome ? 0 : 6], ["height", outcome ? 14 : 2]]) rect.setAttribute(name, value);
      rect.setAttribute("class", !outcome ? "none" : !outcome.reason ? "ok" : outcome.reason === "prober_error" ? "error" : "bad");
      if (outcome) {
        const title = document.createElementNS(svg.namespaceURI, "title");
        title.textContent = `${clock(outcome.at)} ${outcome.reason || "ok"} ${outcome.took_ms.toFixed(1)} ms${outcome.detail ? `: ${outcome.detail}` : ""}`;
        rect.append(title);
      }
      svg.append(rect);
    }
    const text = last ? `${last.reason || "ok"} ${last.took_ms < 10 ? last.took_ms.toFixed(1) : Math.round(last.took_ms)} ms` : "";
    return element("div", { class: "strip" }, element("span", {}, probe.probe || "check"), svg, element("span", { class: "last" }, text));
  }));
}

function drawEvents(events) {
  $("events").hidden = events.length === 0;
  replace($("event-list"), events.map((event) => {
    const kind = event.type.replace("dev.hale.", "");
    return element("li", {},
      element("time", { class: "dim", datetime: event.time, title: event.time }, clock(event.time)),
      element("span", {}, event.subject), element("span", { class: `kind ${event.severity}` }, kind),
      element("span", { class: "what" }, what(event)));
  }));
}

function what({ data }) {
  const parts = [];
  if (data.fault_type && data.resource) parts.push(`${data.fault_type} of ${resource(data.resource)} in ${data.cluster}`);
  if (data.exit) parts.push(data.exit.oom ? "out of memory" : data.exit.signal ? `signal ${data.exit.signal}` : `exit ${data.exit.code}`);
  if (data.hold) parts.push(`${data.action} held by ${data.hold.by}: ${data.hold.reason}`);
  if (data.probe_reason && data.probe) parts.push(`${data.probe} ${data.probe_reason} ${data.consecutive_failures}/${data.failure_threshold}`);
  if (data.last_reason) parts.push(`${data.last_reason} ×${data.consecutive_failures}`);
  for (const key of ["reason", "detail", "last_error", "verdict", "change"]) if (data[key]) parts.push(data[key]);
  if (data.by && !data.hold && !(data.reason || "").includes(data.by)) parts.push(`by ${data.by}`);
  if (data.hint) parts.push(data.hint);
  return parts.join("; ");
}

// ---- doing

function buttons(collection, name, paused) {
  const button = (text, verb, click) => element("button", { type: "button", "data-key": `${collection}/${name}/${verb}`, "aria-label": `${text} ${name}`, onclick: click }, text);
  const made = [button("Explain", "explain", () => explain(name))];
  if (collection !== "targets") made.push(button("Restart", "restart", () => confirm("restart", collection, name)));
  made.push(paused ? button("Resume", "resume", () => act("resume", collection, name, {})) : button("Pause", "pause", () => confirm("pause", collection, name)));
  return made;
}

let opener = null;
$("dialog").addEventListener("close", () => opener && focus(opener));

function open(title, body, actions) {
  opener = document.activeElement?.dataset.key || opener;
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...body);
  $("dialog-buttons").replaceChildren(element("button", { type: "button", onclick: () => $("dialog").close() }, "Close"), ...actions);
  if (!$("dialog").open) $("dialog").showModal();
}

function confirm(verb, collection, name) {
  const reason = element("input", { id: "reason", type: "text", maxlength: 500 });
  const body = [element("label", { for: "reason" }, "Why (kept on record)", reason)];
  const length = element("select", { id: "length" },
    ...[["10 minutes", 600], ["1 hour", 3600], ["1 day", 86400], ["until resumed", ""]].map(([text, value]) => element("option", { value }, text)));
  if (verb === "pause") body.unshift(element("label", { for: "length" }, "For how long", length));
  const go = element("button", { type: "button", class: "go", onclick: () => {
    $("dialog").close();
    const request = { by: "page" };
    if (reason.value) request.reason = reason.value;
    if (verb === "pause" && length.value) request.for_seconds = Number(length.value);
    act(verb, collection, name, request);
  } }, verb === "restart" ? "Restart" : "Pause");
  open(`${verb === "restart" ? "Restart" : "Pause"} ${name}?`, body, [go]);
}

function confirmRun(verb, run) {
  const reason = element("input", { id: "reason", type: "text", maxlength: 500 });
  const word = verb === "approve" ? "Approve" : "Reject";
  const body = [
    element("p", {}, `${run.fault_type} of ${resource(run.resource)} in ${run.cluster}`),
    element("pre", { tabindex: 0 }, run.command.join(" ")),
    element("label", { for: "reason" }, "Why (kept on record)", reason),
  ];
  const go = element("button", { type: "button", class: "go", onclick: () => {
    $("dialog").close();
    act(verb, "runs", run.id, reason.value ? { by: "page", reason: reason.value } : { by: "page" });
  } }, word);
  open(`${word} this run?`, body, [go]);
}

async function act(verb, collection, name, request) {
  try {
    await ask(`/api/v1/${collection}/${encodeURIComponent(name)}/${verb}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
    });
    toast(`asked to ${verb} ${name}`);
    await refresh();
  } catch (error) {
    toast(`${verb} of ${name}: ${error.message}`);
  }
}

async function explain(name) {
  try {
    const told = await get(`/api/v1/explain/${encodeURIComponent(name)}`);
    const chain = (it) => [
      element("p", {}, element("b", {}, it.subject), " ", badge(it.status), ` ${it.summary}`),
      ...it.pending.map((text) => element("p", { class: "dim" }, text)),
      element("ol", {}, ...it.steps.filter((step) => step.kind !== "now").slice(-30).map((step) => element("li", {},
        element("time", { class: "dim", datetime: step.at, title: step.at }, clock(step.at)), element("span", { class: step.severity }, step.text)))),
      ...(it.replicas || []).flatMap(chain),
    ];
    open(`Why ${name} is ${told.status}`, chain(told), []);
  } catch (error) {
    toast(error.message);
  }
}

let fading = 0;
function toast(text) {
  $("toast").textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { $("toast").textContent = ""; }, 6000);
}

// ---- words

function length(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${whole % 60}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${Math.floor(whole / 60) % 60}m`;
  return `${Math.floor(whole / 86400)}d${Math.floor(whole / 3600) % 24}h`;
}

const ago = (from, to) => length((to - from) / 1000);
const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

start();
