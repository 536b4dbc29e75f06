"use strict";
// The page of `ternac serve`: sends one request at a time and shows its events as they come.

const $ = (id) => document.getElementById(id);
let running = null; // the AbortController of the running request
let messages = []; // of the chat so far
let continued = 0; // how often the text was continued: each part has a seed of its own

function headers() {
  const access = $("access").value.trim();
  return { "Content-Type": "application/json", ...(access ? { Authorization: `Bearer ${access}` } : {}) };
}

function say(text, wrong = false) {
  $("state").textContent = text;
  $("state").classList.toggle("wrong", wrong);
}

function show(id, text) {
  $(id).textContent = text;
}

function number(value) {
  return value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

function showRan(ran, tokens) {
  show("executor", ran.executor + (ran.device !== ran.executor ? ` (${ran.device})` : "")
    + (ran.moves ? `, moved ${ran.moves} times` : ""));
  show("speed", ran.tokens_per_second === null ? "–" : number(ran.tokens_per_second));
  show("speedorigin", ran.speed_origin);
  show("joules", ran.joules_per_token === null ? "not known" : `${number(1e6 * ran.joules_per_token)} µJ`);
  show("joulesorigin", ran.joules_origin);
  if (tokens !== null) show("count", String(tokens));
}

async function* events(response) {
  // Server-sent events: blocks of lines between empty lines; those that begin with "data: " count.
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: ")) yield block.slice(6);
    }
  }
}

function span(kind, text) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  $("text").append(made);
  return made;
}

function ready(yes) {
  $("go").disabled = !yes;
  $("stop").disabled = yes;
  const some = $("text").textContent !== "";
  $("copy").disabled = !some;
  $("clear").disabled = !yes || !some;
  $("more").disabled = !yes || !some || $("mode").value === "chat";
}

function clear() {
  messages = [];
  $("text").replaceChildren();
  say("");
  ready(true);
}

function generate() {
  const prompt = $("prompt").value;
  if ($("mode").value === "chat") {
    messages.push({ role: "user", content: prompt });
    span("given", `${$("text").textContent ? "\n\n" : ""}User:\n${prompt}\n\nAssistant:\n`);
    $("prompt").value = "";
    return request("/v1/chat/completions", { messages }, Math.floor(messages.length / 2));
  }
  clear();
  span("given", prompt);
  continued = 0;
  return request("/v1/completions", { prompt }, 0);
}

function more() {
  continued += 1;
  return request("/v1/completions", { prompt: $("text").textContent }, continued);
}

async function request(path, asked, part) {
  const made = document.createTextNode("");
  $("text").append(made);
  running = new AbortController();
  ready(false);
  say("running");
  let reason = null;
  try {
    const response = await fetch(path, {
      method: "POST", headers: headers(), signal: running.signal,
      body: JSON.stringify({
        ...asked, stream: true, stream_options: { include_usage: true },
        max_tokens: $("tokens").valueAsNumber, temperature: $("temperature").valueAsNumber,
        top_k: $("topk").valueAsNumber, seed: $("seed").valueAsNumber + part,
      }),
    });
    if (response.status === 401) $("tokenbox").hidden = false;
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const data of events(response)) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      for (const choice of event.choices) {
        made.appendData(choice.text ?? choice.delta.content ?? "");
        reason = choice.finish_reason ?? reason;
      }
      showRan(event.ternac, event.usage ? event.usage.completion_tokens : null);
    }
    say(reason === null ? "the stream broke off" : `done (${reason})`, reason === null);
  } catch (error) {
    if (error.name === "AbortError") say("stopped");
    else say(error.message, true);
  } finally {
    // A turn that got no answer was not said.
    if (asked.messages && (made.data || reason)) messages.push({ role: "assistant", content: made.data });
    else if (asked.messages) messages.pop();
    running = null;
    ready(true);
    health();
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("text").textContent);
    say("copied");
  } catch {
    getSelection().selectAllChildren($("text")); // without https there is no clipboard: it is marked to be copied
    say("marked: press Ctrl+C");
  }
}

async function health() {
  try {
    const found = await (await fetch("/health")).json();
    show("model", `${found.model}, ${found.status}, program ${found.program_hash.slice(0, 16)}`);
    $("devices").replaceChildren(...found.devices.map((device) => {
      const row = document.createElement("tr");
      const state = device.up ? (device.fallback ? "last resort" : "up") : "lost";
      for (const text of [device.device, state, device.requests, device.tokens, device.speed]) {
        row.insertCell().textContent = text;
      }
      return row;
    }));
  } catch {
    show("model", "the server does not respond");
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running === null) generate();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (running === null) generate();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
$("mode").addEventListener("change", () => {
  running?.abort();
  clear();
  show("promptlabel", $("mode").value === "chat" ? "Your turn" : "Text to continue");
});
$("more").addEventListener("click", () => running === null && more());
$("stop").addEventListener("click", () => running?.abort());
$("copy").addEventListener("click", copy);
$("clear").addEventListener("click", clear);
health();
setInterval(health, 2000);
