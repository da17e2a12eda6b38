"use strict";

// Three small plots in SVG. Texts are set as text, never as markup.
const charts = (() => {
  const NS = "http://www.w3.org/2000/svg";
  const MINUS = "\u2212";
  const LEFT = 46, RIGHT = 12, TOP = 26, BOTTOM = 40;
  const pointers = new WeakMap(); // where the pointer is, so that a plot drawn anew shows the same values

  // Numbers as a text has them.

  function number(value) {
    if (value === null || !Number.isFinite(value)) return "\u2013";
    const size = Math.abs(value);
    let text;
    if (size >= 1e6) text = value.toExponential(1).replace("e+", " \u00d7 10^").replace(/\^(\d+)/, (_, digits) => raised(Number(digits)));
    else if (size >= 100) text = Math.round(value).toLocaleString("en-US");
    else if (size === 0) text = "0";
    else if (size < 1e-4) text = value.toExponential(1).replace(/e([+-]?\d+)/, (_, digits) => ` \u00d7 10${raised(Number(digits))}`);
    else text = String(Number(value.toPrecision(3)));
    return text.replace("-", MINUS);
  }

  function raised(exponent) {
    return String(exponent).replace(/./g, (sign) => "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["0123456789".indexOf(sign)] || "\u207b");
  }

  function power(exponent) { // ten to the exponent
    if (exponent >= 0 && exponent <= 4) return (10 ** exponent).toLocaleString("en-US");
    if (exponent < 0 && exponent >= -4) return (10 ** exponent).toFixed(-exponent);
    return `10${raised(exponent)}`;
  }

  function percent(share) {
    if (share === null || !Number.isFinite(share)) return "\u2013";
    let text = (100 * share).toFixed(1);
    if (text === "100.0" && share < 1) text = ">99.9";
    if (text === "0.0" && share > 0) text = "<0.1";
    return `${text.replace(/\.0$/, "")}\u00a0%`;
  }

  // Drawing.

  function make(parent, name, attributes, text) {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function evenTicks(low, high, most) {
    const rough = (high - low) / most, size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * size).find((one) => one >= rough * 0.999);
    const ticks = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high * (1 + 1e-9); at++) ticks.push(at * step + 0); // + 0: not minus nought
    return ticks;
  }

  function powerTicks(low, high, most) { // whole exponents between two
    const first = Math.ceil(low - 1e-9), last = Math.floor(high + 1e-9), step = Math.max(1, Math.ceil((last - first) / most));
    const ticks = [];
    for (let at = Math.ceil(first / step) * step; at <= last; at += step) ticks.push(at);
    return ticks;
  }

  // `spec`: label; x and y: {low, high, ticks, text(tick), name}; draw(put, X, Y, area); hover(x): {x, text} or null.
  function plot(box, spec) {
    const width = Math.max(box.clientWidth, 200);
    box.replaceChildren();
    const svg = make(box, "svg", { role: "img", "aria-label": spec.label });
    const height = svg.clientHeight || 240;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const area = { left: LEFT, right: width - RIGHT, top: TOP, bottom: height - BOTTOM };
    const X = (x) => area.left + (x - spec.x.low) / (spec.x.high - spec.x.low) * (area.right - area.left);
    const Y = (y) => area.bottom - (y - spec.y.low) / (spec.y.high - spec.y.low) * (area.bottom - area.top);
    const put = (name, attributes, text) => make(svg, name, attributes, text);
    for (const tick of spec.y.ticks) {
      const y = Y(tick);
      put("line", { class: "grid", x1: area.left, x2: area.right, y1: y, y2: y });
      put("text", { x: area.left - 7, y: y + 4, "text-anchor": "end" }, spec.y.text(tick));
    }
    put("text", { x: 0, y: 11 }, spec.y.name);
    spec.draw(put, X, Y, area);
    put("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom });
    for (const tick of spec.x.ticks) {
      const x = X(tick);
      put("line", { class: "axis", x1: x, x2: x, y1: area.bottom, y2: area.bottom + 4 });
      const text = put("text", { x, y: area.bottom + 17, "text-anchor": "middle" }, spec.x.text(tick));
      const over = x + text.getComputedTextLength() / 2 - width;
      if (over > 0) text.setAttribute("x", x - over);
    }
    put("text", { x: (area.left + area.right) / 2, y: height - 5, "text-anchor": "middle" }, spec.x.name);
    if (spec.empty) put("text", { class: "nothing halo", x: (area.left + area.right) / 2, y: 0.7 * area.top + 0.3 * area.bottom, "text-anchor": "middle" }, spec.empty);

    const cursor = put("line", { class: "cursor", y1: area.top, y2: area.bottom, visibility: "hidden" });
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    tip.setAttribute("aria-hidden", "true");
    box.append(tip);
    const point = () => {
      const place = pointers.get(box);
      const inside = place !== undefined && place >= area.left - 6 && place <= area.right + 6;
      const found = inside && spec.hover ? spec.hover(spec.x.low + (place - area.left) / (area.right - area.left) * (spec.x.high - spec.x.low)) : null;
      tip.hidden = !found;
      cursor.setAttribute("visibility", found ? "visible" : "hidden");
      if (!found) return;
      const x = X(found.x);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      tip.textContent = found.text;
      tip.style.left = `${x > width / 2 ? Math.max(0, x - tip.offsetWidth - 10) : Math.min(x + 10, width - tip.offsetWidth)}px`;
    };
    box.onpointermove = (event) => { pointers.set(box, event.clientX - box.getBoundingClientRect().left); point(); };
    box.onpointerdown = box.onpointermove;
    box.onpointerleave = () => { pointers.delete(box); point(); };
    point();
  }

  function path(points, X, Y) { // a line with gaps where there is null
    let text = "", down = false;
    for (const one of points) {
      if (one === null) { down = false; continue; }
      text += `${down ? "L" : "M"}${X(one[0]).toFixed(1)} ${Y(one[1]).toFixed(1)}`;
      down = true;
    }
    return text;
  }

  // What is plotted.

  const SMOOTH = 6, FEWEST = 5; // parts that a point is over, and inputs that a rate takes

  function rates(live) { // of each part: [seconds ago, share, inputs] or null
    const { seconds, counts, flagged } = live.rates;
    const part = live.time % seconds, last = counts.length - 1;
    return counts.map((_, i) => {
      let n = 0, k = 0;
      for (let j = Math.max(0, i - SMOOTH + 1); j <= i; j++) { n += counts[j]; k += flagged[j]; }
      return n < FEWEST ? null : [i === last ? 0 : -(last - i - 1) * seconds - part, k / n, n];
    });
  }

  function rate(box, live) {
    const points = rates(live), known = points.filter(Boolean);
    const calibration = live.calibration;
    const line = calibration === null ? null : calibration.promised ?? calibration.rate;
    const high = Math.min(1, 1.25 * Math.max(0.04, 1.6 * (line ?? 0), ...known.map((one) => one[1])));
    const past = -live.rates.seconds * live.rates.counts.length;
    plot(box, {
      label: known.length ? `Flagged rate over the last ten minutes, now ${percent(known[known.length - 1][1])}` : "Flagged rate: nothing to show yet",
      x: { low: past, high: 0, ticks: [past, 0.8 * past, 0.6 * past, 0.4 * past, 0.2 * past, 0], text: (at) => at === 0 ? "now" : `${MINUS}${Math.round(-at / 60)}`, name: "minutes" },
      y: { low: 0, high, ticks: evenTicks(0, high, 4), text: (at) => String(Number((100 * at).toPrecision(3))), name: "% of inputs" },
      empty: known.length ? null : live.count ? "too few inputs for a rate" : "no inputs yet",
      draw(put, X, Y, area) {
        if (line !== null) {
          put("line", { class: "promise", x1: area.left, x2: area.right, y1: Y(line), y2: Y(line) });
        }
        put("path", { class: "live", d: path(points, X, Y) });
        const last = points[points.length - 1];
        if (last) put("circle", { class: "dot", cx: X(last[0]), cy: Y(last[1]), r: 3.2 });
      },
      hover(x) {
        let best = null;
        for (const one of known) if (best === null || Math.abs(one[0] - x) < Math.abs(best[0] - x)) best = one;
        if (best === null || Math.abs(best[0] - x) > 20) return null;
        const ago = Math.round(-best[0]);
        return { x: best[0], text: `${ago < 3 ? "now" : ago < 60 ? `${ago} s ago` : `${Math.floor(ago / 60)} min ${ago % 60} s ago`}\n${percent(best[1])} of ${number(best[2])} inputs` };
      },
    });
  }

  function scores(box, live) {
    const { edges, live: counts, calibration } = live.histogram;
    const total = counts.reduce((a, b) => a + b, 0);
    const shares = counts.map((one) => total ? one / total : 0);
    const logs = edges.map(Math.log10);
    const thresholds = [...new Set(live.threshold ?? [])].filter((one) => one > 0);
    // Only where there is something, and a little beyond.
    let first = edges.length, last = 0;
    shares.forEach((share, i) => { if (share > 0 || (calibration && calibration[i] > 0)) { first = Math.min(first, i); last = Math.max(last, i + 1); } });
    for (const one of thresholds) {
      const place = edges.findIndex((edge) => edge >= one * (1 - 1e-9));
      if (place >= 0) { first = Math.min(first, place); last = Math.max(last, place); }
    }
    if (first > last) { first = 0; last = edges.length - 1; }
    first = Math.max(0, first - 1);
    last = Math.min(edges.length - 1, last + 2);
    const high = 1.12 * Math.max(0.02, ...shares, ...(calibration ?? []));
    const ticks = powerTicks(logs[first], logs[last], box.clientWidth < 340 ? 4 : 6);
    const above = live.lately.count ? `${percent(live.lately.flagged / live.lately.count)} of the last ${number(live.lately.count)} inputs were flagged` : "no inputs yet";
    plot(box, {
      label: `Scores of the last inputs, and of calibration: ${above}`,
      x: { low: logs[first], high: logs[last], ticks, text: power, name: "score, nats (log scale)" },
      y: { low: 0, high, ticks: evenTicks(0, high, 4), text: (at) => String(Number((100 * at).toPrecision(3))), name: "% of inputs" },
      empty: total ? null : live.invalid ? "none that could be judged yet" : calibration ? null : "no inputs yet",
      draw(put, X, Y, area) {
        const steps = (values, closed) => {
          let text = "";
          for (let i = first; i < last; i++) {
            const y = Y(values[i]).toFixed(1);
            text += `${text ? "L" : closed ? `M${X(logs[i]).toFixed(1)} ${area.bottom}L` : "M"}${X(logs[i]).toFixed(1)} ${y}L${X(logs[i + 1]).toFixed(1)} ${y}`;
          }
          return closed ? `${text}L${X(logs[last]).toFixed(1)} ${area.bottom}Z` : text;
        };
        if (calibration) put("path", { class: "normal", d: steps(calibration, true) });
        thresholds.forEach((one, i) => {
          const x = X(Math.log10(one));
          put("line", { class: "mark", x1: x, x2: x, y1: area.top - 4, y2: area.bottom });
          const room = area.right - x > 70;
          if (i === thresholds.length - 1) put("text", { class: "mark halo", x: room ? x + 5 : x - 5, y: area.top + 5, "text-anchor": room ? "start" : "end" }, thresholds.length > 1 ? "thresholds" : "threshold");
        });
        if (total) put("path", { class: "live", d: steps(shares, false) });
      },
      hover(x) {
        for (let i = first; i < last; i++) {
          if (x < logs[i] || x > logs[i + 1]) continue;
          const lines = [`${number(edges[i])} to ${number(edges[i + 1])} nats`, `live: ${percent(shares[i])} (${number(counts[i])})`];
          if (calibration) lines.push(`calibration: ${percent(calibration[i])}`);
          return { x: (logs[i] + logs[i + 1]) / 2, text: lines.join("\n") };
        }
        return null;
      },
    });
  }

  const BEYOND = 6; // powers of ten above the limit that are drawn

  function evidence(box, live) {
    const drift = live.drift, ln10 = Math.LN10;
    const points = drift.watched ? drift.trace.filter((one) => one[1] !== null).map(([at, value]) => [at, value / ln10]) : [];
    const limit = drift.watched ? drift.log_limit / ln10 : 2;
    const most = Math.max(limit, ...points.map((one) => one[1])), top = Math.min(most, limit + BEYOND);
    const low = Math.min(-1, ...points.map((one) => one[1] - 0.2)), high = top + 0.08 * (top - low) + 0.2;
    const begin = points.length ? points[0][0] : 0, end = Math.max(points.length ? points[points.length - 1][0] : 0, begin + 10);
    const seen = points.length && end > begin && drift.count > 0;
    plot(box, {
      label: drift.watched ? `Evidence for harmful drift: ${number(10 ** (drift.log_evidence / ln10))}, where ${number(10 ** limit)} is enough` : "Drift is not watched",
      x: { low: begin, high: end, ticks: seen ? evenTicks(begin, end, box.clientWidth < 340 ? 3 : 4) : [], text: (at) => at >= 1e6 ? `${number(at / 1e6)}\u00a0M` : Math.round(at).toLocaleString("en-US"), name: "inputs" },
      y: { low, high, ticks: powerTicks(low, high, 5), text: power, name: "evidence (log scale)" },
      empty: !drift.watched ? "not watched" : seen ? null : "no inputs yet",
      draw(put, X, Y, area) {
        if (!drift.watched) return;
        put("line", { class: "limit", x1: area.left, x2: area.right, y1: Y(limit), y2: Y(limit) });
        put("text", { class: "limit halo", x: area.left + 4, y: Y(limit) - 6 }, `alarm at ${number(10 ** limit)}`);
        if (!seen) return;
        for (const alarm of drift.alarms) {
          if (alarm.at < begin) continue;
          const x = X(alarm.at);
          put("line", { class: "limit", x1: x, x2: x, y1: Y(limit), y2: area.bottom });
        }
        put("path", { class: "live", d: path(points.map((one) => [one[0], Math.min(one[1], high)]), X, Y) });
        const last = points[points.length - 1];
        put("circle", { class: "dot", cx: X(last[0]), cy: Y(Math.min(last[1], high)), r: 3.2 });
      },
      hover(x) {
        let best = null;
        for (const one of seen ? points : []) if (best === null || Math.abs(one[0] - x) < Math.abs(best[0] - x)) best = one;
        return best && { x: best[0], text: `after ${Math.round(best[0]).toLocaleString("en-US")} inputs\nevidence ${best[1] > 300 ? "beyond 10\u00b3\u2070\u2070" : number(10 ** best[1])}` };
      },
    });
  }

  const is_beyond = (drift) => drift.watched && drift.log_evidence > drift.log_limit + BEYOND * Math.LN10;

  return { rate, scores, evidence, is_beyond, number, percent };
})();
