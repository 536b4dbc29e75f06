"use strict";
// The page of `ternac serve`: sends one completion at a time and shows its events as they come.

const $ = (id) => document.getElementById(id);
let running = null; // the AbortController of the running request

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

function showRan(ran, tokens) {
  show("executor", ran.executor + (ran.device !== ran.executor ? ` (${ran.device})` : "")
    + (ran.moves ? `, moved ${ran.moves} times` : ""));
  show("speed", ran.tokens_per_second === null ? "–" : ran.tokens_per_second.toPrecision(3));
  show("speedorigin", ran.speed_origin);
  show("joules", ran.joules_per_token === null ? "not known" : ran.joules_per_token.toExponential(2));
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

async function generate() {
  const prompt = $("prompt").value;
  const given = document.createElement("span");
  given.className = "given";
  given.textContent = prompt;
  const made = document.createTextNode("");
  $("text").replaceChildren(given, made);
  running = new AbortController();
  $("go").disabled = true;
  $("stop").disabled = false;
  say("running");
  try {
    const response = await fetch("/v1/completions", {
      method: "POST", headers: headers(), signal: running.signal,
      body: JSON.stringify({
        prompt, stream: true, stream_options: { include_usage: true },
        max_tokens: $("tokens").valueAsNumber, temperature: $("temperature").valueAsNumber,
        top_k: $("topk").valueAsNumber, seed: $("seed").valueAsNumber,
      }),
    });
    if (response.status === 401) $("tokenbox").hidden = false;
    if (!response.ok) throw new Error((await response.json()).error.message);
    let reason = null;
    for await (const data of events(response)) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      for (const choice of event.choices) {
        made.appendData(choice.text);
        reason = choice.finish_reason ?? reason;
      }
      showRan(event.ternac, event.usage ? event.usage.completion_tokens : null);
    }
    say(reason === null ? "the stream broke off" : `done (${reason})`, reason === null);
  } catch (error) {
    if (error.name === "AbortError") say("stopped");
    else say(error.message, true);
  } finally {
    running = null;
    $("go").disabled = false;
    $("stop").disabled = true;
    health();
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
$("stop").addEventListener("click", () => running?.abort());
health();
setInterval(health, 2000);
