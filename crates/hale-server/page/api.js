// The page to try the API with: a form for each operation of /api/v1/openapi.json. Everything shown goes in as text.
"use strict";

const $ = (id) => document.getElementById(id);

const make = (name, text, more = {}) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  Object.assign(element, more);
  return element;
};

const headers = () => ({ Authorization: `Bearer ${localStorage.getItem("hale-token") || ""}` });

async function show() {
  $("operations").replaceChildren();
  const response = await fetch("/api/v1/openapi.json", { headers: headers() });
  if (!response.ok) {
    $("said").textContent = response.status === 401 ? "Give a token to see what can be asked." : `${response.status}`;
    return;
  }
  const api = await response.json();
  $("said").textContent = `${api.info.title} ${api.info.version}`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(form(method, path, operation));
    }
  }
  for (const [tag, forms] of groups) $("operations").append(make("h2", tag), ...forms);
}

function form(method, path, operation) {
  const details = make("details");
  details.append(make("summary", `${method.toUpperCase()} ${path}: ${operation.summary}`));
  if (operation.description) details.append(make("p", operation.description));
  const fields = operation.parameters.map((parameter) => field(details, parameter));
  let body = null;
  if (operation.requestBody) {
    const kind = Object.keys(operation.requestBody.content)[0];
    body = make("textarea", "", { rows: 5, cols: 80, placeholder: kind, ariaLabel: `body, ${kind}` });
    body.kind = kind;
    details.append(make("p", `Body (${kind})`), body);
  }
  const output = make("pre");
  const button = make("button", "Send", { type: "button" });
  button.addEventListener("click", () => send(method, path, fields, body, output).catch((error) => {
    output.textContent = `${error}`;
  }));
  details.append(make("p"), button, output);
  return details;
}

function field(into, parameter) {
  const row = make("p");
  const label = make("label", `${parameter.name}${parameter.required ? " *" : ""} (${parameter.in}) `);
  const words = parameter.schema.enum;
  const input = words ? make("select") : make("input", "", { autocomplete: "off" });
  if (words) for (const word of parameter.required ? words : ["", ...words]) input.append(make("option", word));
  label.append(input);
  row.append(label);
  if (parameter.description) row.append(make("small", ` ${parameter.description}`));
  into.append(row);
  return { parameter, input };
}

async function send(method, path, fields, body, output) {
  output.textContent = "…";
  const query = new URLSearchParams();
  const options = { method: method.toUpperCase(), headers: headers() };
  for (const { parameter, input } of fields) {
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value && parameter.in === "query") query.set(parameter.name, input.value);
    else if (input.value) options.headers[parameter.name] = input.value;
  }
  if (body && body.value) {
    options.body = body.value;
    options.headers["Content-Type"] = body.kind;
  }
  const response = await fetch(query.size ? `${path}?${query}` : path, options);
  const text = await response.text();
  let shown = text;
  try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is no JSON: shown as it is */ }
  output.textContent = `${response.status} ${response.headers.get("content-type") || ""}\n\n${shown}`;
}

function enter() {
  localStorage.setItem("hale-token", $("token").value.trim());
  $("token").value = "";
  show();
}

$("enter").addEventListener("click", enter);
$("token").addEventListener("keydown", (event) => event.key === "Enter" && enter());
show();
