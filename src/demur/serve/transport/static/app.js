"use strict";

// What comes from the server is shown as text only: names of models are whatever somebody called a file.
(() => {
  const $ = (id) => document.getElementById(id);
  const { number, percent } = charts;
  const EVERY = 1000, PATIENCE = 5000; // milliseconds
  const TYPES = { float16: "FP16", float32: "FP32", float64: "FP64", uint8: "UINT8", int8: "INT8", uint16: "UINT16", int16: "INT16", uint32: "UINT32", int32: "INT32", uint64: "UINT64", int64: "INT64" };
  const MINUS = "\u2212";
  let names = null, chosen = null, live = null, told = null, timer = null, answered = null, file = null, asking = 0;

  // Asking.

  class Refused extends Error {
    constructor(status, message) { super(message); this.status = status; }
  }

  async function ask(path, options = {}) {
    const headers = { ...options.headers }, key = sessionStorage.getItem("demur-key");
    if (key) headers.Authorization = `Bearer ${key}`;
    const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store", ...options, headers });
    if (answer.ok) return answer;
    let message = `status ${answer.status}`;
    try { message = String((await answer.json()).error ?? message); } catch { /* no JSON: the status says enough */ }
    throw new Refused(answer.status, message);
  }

  const live_of = (name) => `live/${encodeURIComponent(name)}`;

  async function round() {
    clearTimeout(timer);
    timer = null;
    try {
      $("links").hidden = sessionStorage.getItem("demur-key") !== null; // a link cannot bring the key
      if (names === null) await models();
      if (chosen !== null) {
        const of = chosen, found = await (await ask(live_of(of))).json();
        if (of === chosen) { live = found; show(); }
      }
      answered = new Date();
      $("lost").hidden = true;
      $("login").hidden = true;
      $("main").classList.remove("stale");
    } catch (error) {
      failed(error);
    }
    if (!document.hidden && $("login").hidden && timer === null) timer = setTimeout(round, EVERY);
  }

  async function models() {
    names = (await (await ask("live")).json()).models;
    const wanted = name_in_address();
    chosen = names.includes(wanted) ? wanted : names[0] ?? null;
    $("models").replaceChildren(...names.map((name) => new Option(name, name, name === chosen, name === chosen)));
    $("choice").hidden = names.length < 2;
    if (chosen === null) $("about").textContent = "No model is served yet.";
  }

  function name_in_address() {
    try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
  }

  function failed(error) {
    if (error instanceof Refused && error.status === 401) {
      $("login-why").textContent = sessionStorage.getItem("demur-key") ? "The server does not know that key. Look whether it is whole, or ask whoever runs the server." : "Whoever runs it can give you one. It is kept in this tab only, and forgotten when you close it.";
      $("about").textContent = "";
      $("main").hidden = $("links").hidden = true;
      $("login").hidden = false;
      $("key").focus();
      return;
    }
    if (error instanceof Refused && error.status === 404) names = null; // the model is gone: see which there are
    const since = answered === null ? "" : ` since ${clock(answered)}`;
    $("lost").textContent = error instanceof Refused ? `The server answers: ${error.message}` : `No answer from the server${since}. Trying again each second.`;
    $("lost").hidden = false;
    $("main").classList.add("stale");
  }

  // Saying.

  const clock = (date) => date.toLocaleTimeString("en-GB");
  const whole = (count) => Math.round(count).toLocaleString("en-US");
  const things = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
  const evidence_of = (log) => log > 690 ? "more than 10\u00b2\u2079\u2079" : number(Math.exp(log));

  function moment(seconds) {
    const date = new Date(1000 * seconds), day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    return date.toDateString() === new Date().toDateString() ? time : `${day}, ${time}`;
  }

  function ago(seconds) {
    if (seconds < 1.5) return "just now";
    if (seconds < 60) return `${Math.round(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    return seconds < 86400 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86400)} d ago`;
  }

  function say(element, text) { // only what changed, so that screen readers and selections are left in peace
    if (element.textContent !== text) element.textContent = text;
  }

  function figure(element, value, unit = "") {
    if (element.dataset.shown === value + unit) return;
    element.dataset.shown = value + unit;
    element.replaceChildren(value);
    if (unit) {
      const small = document.createElement("span");
      small.className = "unit";
      small.textContent = unit;
      element.append(small);
    }
  }

  function state() { // [what it looks like, headline, meaning]
    const { drift, count, invalid } = live;
    if (!drift.watched) {
      const seen = count ? `${things(count, "input")} seen` : "No inputs yet";
      if (drift.why === "not calibrated") return ["", `${seen}; drift cannot be told`, "This guard has no scores of normal inputs to compare with. Call infer_threshold(X, fpr=0.05) on rows that it was not trained on, and export it again."];
      if (drift.why === "switched off") return ["", `${seen}; drift is not watched`, "The drift monitor was switched off when this server was started."];
      return ["", `${seen}; drift is not watched`, String(drift.why ?? "")];
    }
    const false_alarm = drift.method === "cusum" ? "" : ` Without drift, the chance of ever raising an alarm is at most ${percent(drift.alpha)}.`;
    const last = drift.alarms[drift.alarms.length - 1];
    if (drift.alarm) {
      const when = last?.time ? ` at ${moment(last.time)}` : "";
      return ["bad", `Drift found at input ${whole(last.at)}: the classifier is being hurt`, `Scores are higher than calibration and chance explain: the evidence reached ${evidence_of(last.log_evidence)}${when}, where ${number(Math.exp(drift.log_limit))} is enough.${false_alarm} Look at what changed in the inputs; the classifier may need to be trained anew.`];
    }
    if (drift.count === 0) {
      const aside = invalid ? ` ${things(invalid, "input")} came that could not be judged: NaN or infinite.` : "";
      return ["", "No inputs yet", `Drift is watched from the first one on.${aside}`];
    }
    const before = drift.alarm_count ? ` There ${drift.alarm_count === 1 ? "was an alarm" : `were ${whole(drift.alarm_count)} alarms`} before, the last at input ${whole(last.at)}.` : "";
    return ["good", `No drift found in ${things(drift.count, "input")}`, `The evidence for drift that hurts the classifier is ${evidence_of(drift.log_evidence)}; ${number(Math.exp(drift.log_limit))} would be enough.${false_alarm}${before}`];
  }

  function show() {
    $("main").hidden = false;
    document.title = `${live.drift.alarm ? "Drift: " : ""}${live.model} \u00b7 demur`;
    say($("name"), live.model);
    const shapes = live.inputs.map((one) => `${one.name} (${["n", ...one.shape.map((side) => side ?? "any")].join(", ")}) ${one.dtype}`).join("; ");
    say($("about"), `Guarded by demur: ${live.detector}, version ${live.version}. Takes ${shapes}; tells ${live.classes} classes apart.`);
    const [look, headline, meaning] = state();
    $("headline").className = look;
    say($("state"), headline);
    const kind = `${live.model} ${look} ${live.drift.alarm_count ?? 0}`;
    if (kind !== told) { // read out when the state changes, not whenever the count of inputs does
      told = kind;
      say($("news"), headline);
    }
    say($("meaning"), meaning);
    $("ending").hidden = !live.drift.alarm;

    const { lately, calibration, speed, drift } = live;
    say($("lately-count"), lately.count ? whole(lately.count) : "inputs");
    const [share, unit] = percent(lately.count ? lately.flagged / lately.count : null).split("\u00a0");
    figure($("lately"), share, unit && `\u00a0${unit}`);
    say($("promised"), calibration === null ? "not calibrated: no rate is promised" : calibration.promised === null ? `${percent(calibration.rate)} in calibration` : `promised: at most ${percent(calibration.promised)} of normal inputs`);
    figure($("count"), whole(live.count));
    say($("since"), `since ${moment(live.since)}${live.invalid ? `; ${whole(live.invalid)} more could not be judged` : ""}`);
    figure($("throughput"), speed.inputs >= 10 ? whole(speed.inputs) : number(Number(speed.inputs.toFixed(1))));
    figure($("p50"), speed.p50 === null ? "\u2013" : number(1000 * speed.p50), speed.p50 === null ? "" : "\u00a0ms");
    say($("p99"), speed.p99 === null ? "no requests answered yet" : `median; 1 in 100 takes over ${number(1000 * speed.p99)} ms`);

    say($("scores-title"), calibration === null ? "Scores" : "Scores, against those of calibration");
    $("drift").hidden = !drift.watched;
    draw();
    const line = calibration === null ? [] : [["promise", calibration.promised === null ? "the rate in calibration" : "promised at most"]];
    legend($("rate-note"), [["live", "flagged"], ...line], "each point is over half a minute");
    legend($("scores-note"), [["live", lately.count ? `the last ${things(lately.count, "input")}` : "live: none yet"], ...(calibration ? [["normal", `${whole(calibration.size)} of calibration`]] : [])], "what lies right of the threshold is flagged");
    say($("evidence-note"), drift.watched ? "What 1 has become by betting on drift: it falls while nothing happens, and grows by powers of ten when scores rise." + (charts.is_beyond(drift) ? ` It has left the plot: it is ${evidence_of(drift.log_evidence)} now.` : "") : "");
    flagged();
    trying();
    say($("when"), `as of ${clock(new Date(1000 * live.time))}`);
  }

  function draw() {
    if (live === null || $("main").hidden) return;
    charts.rate($("rate"), live);
    charts.scores($("scores"), live);
    if (live.drift.watched) charts.evidence($("evidence"), live);
  }

  function legend(element, parts, rest) {
    const text = JSON.stringify([parts, rest]);
    if (element.dataset.shown === text) return;
    element.dataset.shown = text;
    element.replaceChildren();
    for (const [kind, words] of parts) {
      const key = document.createElement("span");
      key.className = `key ${kind}`;
      element.append(key, `${words}; `);
    }
    element.append(`${rest}.`);
  }

  // The last flagged inputs.

  const cards = new Map(); // by number: {card, pictures: {which: address}}

  function flagged() {
    const entries = live.recent, box = $("flagged");
    const why = entries.length ? "" : live.flagged ? "They came before this server started to keep them, or were too large to keep." : live.count ? `None of ${things(live.count, "input")} so far. When the guard objects to one, it is shown here with what the guard made of it.` : "Nothing was flagged, as nothing has come yet.";
    say($("flagged-why"), why);
    $("flagged-why").hidden = !why;
    const kept = new Set(entries.map((one) => `${live.model} ${one.id}`));
    for (const [key, one] of cards) {
      if (kept.has(key)) continue;
      Object.values(one.pictures).forEach((address) => URL.revokeObjectURL(address));
      one.card.remove();
      cards.delete(key);
    }
    const pictures = entries.some((one) => one.pictures.length);
    box.classList.toggle("rows", !pictures);
    if (!pictures) { rows(box, entries); return; }
    if (box.querySelector("table")) box.replaceChildren();
    entries.forEach((entry, place) => {
      const key = `${live.model} ${entry.id}`;
      if (!cards.has(key)) cards.set(key, new_card(entry));
      const one = cards.get(key);
      if (box.children[place] !== one.card) box.insertBefore(one.card, box.children[place] ?? null);
      fill(one, entry);
    });
  }

  function new_card(entry) {
    const card = document.createElement("figure"), sides = document.createElement("div"), words = document.createElement("p");
    card.className = "card";
    sides.className = "sides";
    if (!live.outputs.includes("reconstruction")) sides.classList.add("alone");
    const both = document.createElement("b"), rest = document.createElement("span");
    both.textContent = entry.classifier === entry.corrected ? `class ${entry.classifier}, said by both` : `classifier ${entry.classifier}, guard ${entry.corrected}`;
    rest.className = "caption";
    words.append(both, document.createElement("br"), rest);
    const blank = (which) => {
      const one = document.createElement("div");
      one.className = "blank";
      one.textContent = which === "input" ? "" : "\u2026";
      return one;
    };
    const places = { input: blank("input") };
    if (!sides.classList.contains("alone")) places.reconstruction = blank("reconstruction");
    sides.append(...Object.values(places));
    card.append(sides, words);
    return { card, places, rest, pictures: {}, asked: new Set() };
  }

  function fill(one, entry) {
    say(one.rest, `${entry.score === null ? "cannot be judged" : `score ${number(entry.score)}`}, ${ago(live.time - entry.time)}`);
    for (const which of entry.pictures) {
      if (one.places[which] === undefined || one.asked.has(which)) continue;
      one.asked.add(which);
      picture(one, entry, which);
    }
    if (one.places.reconstruction && !one.asked.has("reconstruction") && live.time - entry.time > 30) say(one.places.reconstruction, "no recon\u00adstruction");
  }

  async function picture(one, entry, which) {
    try {
      const answer = await ask(`${live_of(live.model)}/flagged/${entry.id}/${which}.png`);
      const image = new Image();
      image.src = one.pictures[which] = URL.createObjectURL(await answer.blob());
      image.alt = which === "input" ? `A flagged input: the classifier says ${entry.classifier}, the guard ${entry.corrected}` : "The guard's reconstruction of it";
      await image.decode();
      one.places[which].replaceWith(image);
    } catch {
      one.asked.delete(which); // asked again with the next figures, while it is kept
    }
  }

  function rows(box, entries) {
    const shown = JSON.stringify(entries.map((one) => one.id));
    if (box.dataset.rows === shown && box.querySelector("table")) return;
    box.dataset.rows = shown;
    box.replaceChildren();
    if (!entries.length) return;
    const table = document.createElement("table"), most = Math.max(...entries.map((one) => one.values?.length ?? 0));
    const add = (row, name, text) => { const cell = document.createElement(name); cell.textContent = text; row.append(cell); };
    const head = table.createTHead().insertRow(), body = table.createTBody();
    for (const name of ["time", "score", "classifier", "guard", ...Array.from({ length: most }, (_, i) => `${i + 1}`)]) add(head, "th", name);
    for (const cell of head.cells) cell.scope = "col";
    for (const entry of entries) {
      const row = body.insertRow();
      for (const text of [clock(new Date(1000 * entry.time)), number(entry.score), String(entry.classifier), String(entry.corrected), ...(entry.values ?? []).map(number)]) add(row, "td", text);
    }
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "The last flagged inputs, with their numbers");
    box.append(table);
  }

  // Trying an image.

  function trying() {
    const input = live.input;
    $("try").hidden = input === null; // it takes what no image can be made into
    $("below").classList.toggle("alone", input === null);
    if (input === null) return;
    const [low, high] = usual();
    say($("range").options[0], `${live.range.seen ? "as usual here" : "a guess"}: ${number(low)} to ${number(high)}`);
    $("inverted").hidden = input.channels !== 1;
    const [height, width] = size();
    say($("try-why"), `It is cut and resized to ${width} \u00d7 ${height} pixels${input.channels === 1 ? ", in shades of grey," : ""} and served as any other input, which is to say that it counts.`);
  }

  function usual() { return [live.range.low, live.range.high]; }
  function size() { return [live.input.height ?? 224, live.input.width ?? 224]; }

  function loaded(blob) {
    const image = new Image(), address = URL.createObjectURL(blob);
    return new Promise((done, fail) => {
      image.onload = () => { URL.revokeObjectURL(address); done(image); };
      image.onerror = () => { URL.revokeObjectURL(address); fail(new Error("The browser cannot read this file as an image.")); };
      image.src = address;
    });
  }

  async function try_out() {
    if (file === null || live === null || live.input === null) return;
    const number_of_try = ++asking, model = live.model;
    say_verdict("", "Asking the guard.", []);
    try {
      const image = await loaded(file), canvas = $("sent"), [height, width] = size(), input = live.input;
      canvas.width = width;
      canvas.height = height;
      const brush = canvas.getContext("2d", { willReadFrequently: true });
      brush.fillStyle = "#000";
      brush.fillRect(0, 0, width, height);
      brush.imageSmoothingQuality = "high";
      const scale = Math.max(width / image.naturalWidth, height / image.naturalHeight) || 1;
      const wide = (image.naturalWidth || width) * scale, tall = (image.naturalHeight || height) * scale;
      brush.drawImage(image, (width - wide) / 2, (height - tall) / 2, wide, tall);
      const shade = brush.getImageData(0, 0, width, height), [low, high] = $("range").value === "auto" ? usual() : $("range").value.split(" ").map(Number);
      prepare(shade.data, input.channels === 1, input.channels === 1 && $("invert").checked);
      brush.putImageData(shade, 0, 0);
      const data = numbers(shade.data, height * width, input, low, high);
      const shape = { hw: [height, width], hwc: [height, width, input.channels], chw: [input.channels, height, width] }[input.kind];
      $("answer").hidden = false;
      $("made").hidden = true;
      const body = { inputs: [{ name: input.name, shape: [1, ...shape], datatype: TYPES[input.dtype] ?? "FP32", data }], outputs: live.outputs.map((name) => ({ name })) };
      const answer = await (await ask(`v2/models/${encodeURIComponent(model)}/infer`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(60000) })).json();
      if (number_of_try !== asking) return;
      tell(Object.fromEntries(answer.outputs.map((one) => [one.name, one.data.flat(Infinity)])), shape, low, high);
    } catch (error) {
      if (number_of_try !== asking) return;
      if (error instanceof Refused && error.status === 401) failed(error);
      say_verdict("bad", error instanceof Refused ? "The server refused it" : "It could not be tried", [], error instanceof TypeError || error.name === "TimeoutError" ? "There was no answer from the server." : error.message);
    }
  }

  function prepare(data, grey, inverted) { // in place: the image as the model gets it
    for (let i = 0; i < data.length; i += 4) {
      if (!grey) continue;
      const shade = Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
      data[i] = data[i + 1] = data[i + 2] = inverted ? 255 - shade : shade;
    }
  }

  function numbers(data, count, input, low, high) { // flat, in the order of the model's axes
    const out = new Array(count * input.channels), whole_numbers = /int/.test(input.dtype);
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < input.channels; c++) {
        const value = low + data[4 * i + c] / 255 * (high - low);
        out[input.kind === "chw" ? c * count + i : i * input.channels + c] = whole_numbers ? Math.round(value) : Number(value.toPrecision(7));
      }
    }
    return out;
  }

  function tell(said, shape, low, high) {
    const score = said.instance_score[0], is_flagged = Boolean(said.is_adversarial[0]);
    const classifier = said.no_defense[0], opinion = said.defense?.[0], corrected = said.corrected[0];
    const judged = score !== null && Number.isFinite(Number(score));
    const limit = live.threshold === null ? "" : live.threshold[0] === live.threshold[1] ? `; flagged above ${number(live.threshold[0])}` : `; flagged above ${number(live.threshold[0])} to ${number(live.threshold[1])}, by class`;
    const facts = [["classifier", `class ${classifier}`]];
    if (opinion !== undefined) facts.push(["guard", `class ${opinion}`]);
    facts.push(["answer", `class ${corrected}`], ["score", judged ? `${number(Number(score))} nats${limit}` : "none: it cannot be judged"]);
    const p = said.p_value?.[0];
    if (judged && p !== undefined && p !== null) facts.push(["p-value", `${number(p)}: ${likelihood(p)}`]);
    const same = opinion === undefined ? classifier === corrected : classifier === opinion;
    const headline = !judged ? "Flagged: it cannot be judged" : is_flagged ? (same ? "Flagged, though both say the same class" : `Flagged: the guard says ${opinion ?? corrected}, not ${classifier}`) : same ? `Accepted as class ${classifier}` : `Accepted as class ${classifier}, with a doubt`;
    const meaning = !judged ? "" : is_flagged ? "The guard objects: do not rely on the classifier's answer." : "Such a score is not unusual for a normal input.";
    say_verdict(is_flagged ? "bad" : "good", headline, facts, meaning);
    if (said.reconstruction) paint($("reconstruction"), said.reconstruction, shape, low, high);
    $("made").hidden = !said.reconstruction;
  }

  function likelihood(p) { // a p-value in words
    const n = live.calibration?.size;
    if (n && p <= 1.001 / (n + 1)) return `none of ${things(n, "normal input")} scored this high`;
    if (p >= 0.1) return `${percent(p)} of normal inputs score this high`;
    return `about 1 in ${whole(1 / p)} normal inputs scores this high`;
  }

  function say_verdict(look, headline, facts, meaning = "") {
    const title = document.createElement("h3"), list = document.createElement("dl"), parts = [title];
    title.className = look;
    title.textContent = headline;
    if (meaning) {
      const words = document.createElement("p");
      words.textContent = meaning;
      parts.push(words);
    }
    for (const [name, value] of facts) {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      list.append(term, text);
    }
    if (facts.length) parts.push(list);
    $("verdict").replaceChildren(...parts);
  }

  function paint(canvas, values, shape, low, high) {
    const { kind, channels } = live.input, [height, width] = kind === "chw" ? shape.slice(1) : shape;
    canvas.width = width;
    canvas.height = height;
    const brush = canvas.getContext("2d"), image = brush.createImageData(width, height), count = height * width;
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < 3; c++) {
        const channel = Math.min(c, channels - 1);
        image.data[4 * i + c] = 255 * (values[kind === "chw" ? channel * count + i : i * channels + channel] - low) / (high - low);
      }
      image.data[4 * i + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
  }

  function choose(files) {
    if (!files.length) return;
    file = files[0];
    try_out();
  }

  // Listening.

  function look_at(name) {
    chosen = name;
    live = null;
    file = null;
    asking++;
    $("answer").hidden = true;
    $("verdict").replaceChildren();
    $("file").value = "";
    round();
  }

  $("models").addEventListener("change", () => { location.hash = encodeURIComponent($("models").value); });
  addEventListener("hashchange", () => {
    const name = name_in_address();
    if (names === null || !names.includes(name) || name === chosen) return;
    $("models").value = name;
    look_at(name);
  });
  $("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("demur-key", $("key").value.trim());
    $("key").value = "";
    $("login").hidden = true;
    round();
  });
  $("reset").addEventListener("click", async () => {
    $("reset").disabled = true;
    try {
      // As JSON: the server takes nothing else for this, which no other site's page can send.
      await ask(`${live_of(live.model)}/reset`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
      await round();
    } catch (error) {
      failed(error);
    }
    $("reset").disabled = false;
  });
  $("file").addEventListener("change", () => choose($("file").files));
  for (const control of [$("range"), $("invert")]) control.addEventListener("change", try_out);
  const drop = $("drop");
  addEventListener("dragover", (event) => event.preventDefault()); // a file dropped beside the box must not replace the page
  addEventListener("drop", (event) => event.preventDefault());
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    choose(event.dataTransfer.files);
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    timer = null;
    if (!document.hidden && $("login").hidden) round();
  });
  new ResizeObserver(draw).observe($("rate"));
  round();
})();
