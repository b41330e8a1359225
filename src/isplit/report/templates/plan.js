// The planner's cost model in the page: what each placement takes for the link, the device and the limits of the sliders.
// It repeats isplit.plan.transfer and isplit.plan.evaluate for medians, from the numbers of the plan.
"use strict";
(async () => {
  const section = document.getElementById("plan-section");
  if (!section) return;
  const data = await CHARTS.unpack("plan");
  const { link, tcp, placements } = data;

  // ---- the time of one transfer: isplit/plan/transfer.py ----
  function windowsUntil(done) {
    let window = tcp.initial_window, sent = 0;
    while (!done(window, sent)) { sent += window; window = Math.min(2 * window, 4096); }
  }

  function stalls(segments, segmentMs, rtt) {
    let total = 0, window = tcp.initial_window, sent = window;
    while (sent < segments && window * segmentMs < rtt + segmentMs) {
      total += Math.max(rtt + segmentMs - window * segmentMs, 0);
      window *= 2;
      sent += window;
    }
    return total;
  }

  function episodesOf(segments, loss) {
    let episodes = 0;
    windowsUntil((window, sent) => {
      if (sent >= segments) return true;
      episodes += 1 - (1 - loss) ** Math.min(Math.max(segments - sent, 0), window);
      return false;
    });
    return episodes;
  }

  function lossCases(segments, segmentMs, rtt, loss) {
    if (loss === 0) return [];
    const tail = Math.min(segments, tcp.rack ? 1 : tcp.duplicate_acks);
    const inTail = 1 - (1 - loss) ** tail;
    const beforeTail = 1 - (1 - loss) ** (segments - tail);
    const rto = Math.max(tcp.rto_floor_ms, tcp.rto_base_ms + tcp.rto_round_trips * rtt);
    const repair = rto + segmentMs + (segments > 1 ? rtt : 0);
    const inFlight = Math.min(segments - tail, tcp.initial_window) * segmentMs / 2;
    const detection = tcp.rack ? rtt / 4 : tcp.duplicate_acks * segmentMs;
    const fast = Math.max(rtt + detection + segmentMs - inFlight, 0) * (beforeTail > 0 ? episodesOf(segments - tail, loss) / beforeTail : 1);
    return [[inTail, repair], [beforeTail, fast], [1 - (1 - loss * loss) ** segments, rto]];
  }

  // The median of a sum of delays that each happen or not, independently.
  function medianOf(cases) {
    let sums = [[0, 1]];
    cases.forEach(([probability, delay]) => {
      sums = [...sums.map(([sum, weight]) => [sum, weight * (1 - probability)]), ...sums.map(([sum, weight]) => [sum + delay, weight * probability])];
    });
    sums.sort(([first], [second]) => first - second);
    let reached = 0;
    for (const [sum, weight] of sums) {
      reached += weight;
      if (reached >= 0.5 - 1e-12) return sum;
    }
    return sums.at(-1)[0];
  }

  // Median and busy milliseconds of a message of so many bytes.
  function transfer(bytes, rate, rtt, { loss, otherLoss, warm }) {
    if (data.transport === "udp") {
      const packets = Math.max(Math.ceil(bytes / Math.max(link.mtu - tcp.udp_header_bytes, 1)), 1);
      const busy = (bytes + packets * tcp.udp_header_bytes) * 8e3 / rate;
      return { median: busy + rtt / 2, busy };
    }
    const payload = Math.max(link.mtu - tcp.header_bytes, 1);
    const segments = Math.max(Math.ceil(bytes / payload), 1);
    const segmentMs = (payload + tcp.header_bytes) * 8e3 / rate;
    const busy = (bytes + segments * tcp.header_bytes) * 8e3 / rate;
    const handshake = warm ? 0 : tcp.handshake_round_trips * rtt;
    let median = handshake + rtt / 2 + busy + stalls(segments, segmentMs, rtt);
    if (loss > 0 || (otherLoss > 0 && !warm)) {
      const cases = lossCases(segments, segmentMs, rtt, loss);
      if (!warm) cases.push([1 - (1 - loss) * (1 - otherLoss), tcp.handshake_timeout_ms]);
      const sustained = loss === 0 ? 0 : Math.max(segments - 1 / loss, 0) * rtt * Math.sqrt(2 * loss / 3);
      median = Math.max(median + medianOf(cases), handshake + rtt / 2 + sustained);
    }
    return { median, busy: busy / (1 - loss) };
  }

  // ---- every placement: isplit/plan/evaluate.py ----
  function overLink(rate, rtt) {
    const down = rate * (link.down / link.up);
    return placements.map((placement) => {
      if (!placement.sends) return { link: 0, upBusy: 0, downBusy: 0 };
      const up = transfer(placement.up, rate, rtt, { loss: link.loss_up, otherLoss: link.loss_down, warm: data.warm });
      const back = transfer(placement.down, down, rtt, { loss: link.loss_down, otherLoss: link.loss_up, warm: true });
      return { link: up.median + back.median, upBusy: up.busy / link.duty, downBusy: back.busy };
    });
  }

  function withDevice(carried, speed) {
    return placements.map((placement, index) => {
      const device = placement.device / speed;
      const total = device + carried[index].link + placement.server;
      const busiest = Math.max(device, carried[index].upBusy, carried[index].downBusy);
      const perSecond = Math.min(1e3 / Math.max(busiest, 1e-9), placement.server_per_s ?? Infinity);
      return { device, link: carried[index].link, server: placement.server, total, perSecond };
    });
  }

  const OBJECTIVES = {
    "latency": (_, times) => times.total,
    "p95-latency": (placement, times) => times.total + placement.spread,
    "energy": (placement) => placement.energy ?? Infinity,
    "bytes": (placement) => placement.up + placement.down,
    "accuracy": (placement) => placement.loss ?? 1,
    "throughput": (_, times) => -times.perSecond,
  };

  const keeps = (placement, times, limits) => placement.considered && !placement.broken.length && times.total <= limits.latency + 1e-9 &&
    (limits.loss === Infinity || (placement.judged_loss !== null && placement.judged_loss <= limits.loss + 1e-9));

  // The index of the best placement, -1 where none keeps the limits; equals are told apart by latency, then bytes.
  function bestOf(times, limits) {
    const value = OBJECTIVES[data.objective];
    let best = -1, least = [Infinity, Infinity, Infinity];
    placements.forEach((placement, index) => {
      if (!keeps(placement, times[index], limits)) return;
      const score = [value(placement, times[index]), times[index].total, placement.up + placement.down];
      const differs = score.findIndex((part, place) => Math.abs(part - least[place]) > 1e-9 * Math.max(1, Math.abs(part)) || least[place] === Infinity);
      if (differs >= 0 && score[differs] < least[differs]) [best, least] = [index, score];
    });
    return best;
  }

  function frontOf(times) {
    const known = placements.map((_, index) => index).filter((index) => placements[index].loss !== null);
    const figures = (index) => [times[index].total, placements[index].up + placements[index].down, placements[index].loss];
    const beats = (first, second) => {
      const a = figures(first), b = figures(second);
      if (!a.every((value, place) => value <= b[place])) return false;
      return a.some((value, place) => value < b[place]) || first < second;
    };
    return new Set(known.filter((index) => !known.some((other) => other !== index && beats(other, index))));
  }

  // ---- sliders ----
  const inputs = Object.fromEntries(["rate", "rtt", "speed", "latency", "loss"].map((name) => [name, document.getElementById(`plan-${name}`)]));
  const planned = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
  const atPlan = (name) => inputs[name].value === planned[name];
  const atEnd = (input) => Number(input.value) >= Number(input.max) - 1e-6;
  const exact = { rate: link.up, rtt: link.rtt, speed: 1, latency: data.max_latency_ms ?? Infinity, loss: data.max_accuracy_loss ?? Infinity };

  // The exact numbers of the plan where a slider was not moved: its steps are coarser.
  function settings() {
    const value = (name, made) => (atPlan(name) ? exact[name] : made(Number(inputs[name].value)));
    return {
      rate: value("rate", (power) => 10 ** power), rtt: value("rtt", (power) => 10 ** power - 1), speed: value("speed", (power) => 10 ** power),
      latency: value("latency", (power) => (atEnd(inputs.latency) ? Infinity : 10 ** power)),
      loss: value("loss", (points) => (atEnd(inputs.loss) ? Infinity : points / 100)),
    };
  }

  const digits = (value, count = 3) => Number(value.toPrecision(count)).toLocaleString("en");
  function rateText(rate) {
    const [factor, unit] = rate >= 1e9 ? [1e9, "Gbit/s"] : rate >= 1e6 ? [1e6, "Mbit/s"] : [1e3, "kbit/s"];
    return `${digits(rate / factor)} ${unit}`;
  }
  const msText = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`;
  const percentText = (placement) => (placement.accuracy === null ? "accuracy not known" : `${(100 * placement.accuracy).toFixed(1)} %`);

  function label(now) {
    const say = (name, text) => { document.getElementById(`plan-${name}-text`).textContent = text; inputs[name].setAttribute("aria-valuetext", text); };
    say("rate", rateText(now.rate));
    say("rtt", `${digits(now.rtt)} ms`);
    say("speed", now.speed === 1 ? "as planned" : `${digits(now.speed)} × planned`);
    say("latency", now.latency === Infinity ? "no limit" : msText(now.latency));
    say("loss", now.loss === Infinity ? "no limit" : `${digits(100 * now.loss)} point${digits(100 * now.loss) === "1" ? "" : "s"}`);
    document.getElementById("plan-reset").disabled = Object.keys(inputs).every(atPlan);
  }

  // ---- what is best now, and the best of each other kind ----
  function describe(times, limits, best) {
    const text = document.getElementById("plan-now");
    if (best < 0) {
      text.textContent = "No placement keeps these limits.";
      return;
    }
    const strong = document.createElement("strong");
    strong.textContent = placements[best].name;
    const others = alternatives(times, limits, best).map((index) => `${placements[index].name}: ${msText(times[index].total)}, ${percentText(placements[index])}`);
    const rest = `: ${msText(times[best].total)}, ${percentText(placements[best])}. ${others.length ? `Otherwise ${others.join("; ")}.` : ""}`;
    text.replaceChildren("Best here is ", strong, rest);
  }

  function alternatives(times, limits, best) {
    const kinds = ["split", "remote", "local", "middle", "tiers", "segmented"].filter((kind) => best < 0 || kind !== placements[best].kind);
    return kinds.map((kind) => {
      const open = { ...limits, latency: Infinity };
      const candidates = placements.map((_, index) => index).filter((index) => placements[index].kind === kind && keeps(placements[index], times[index], open));
      return candidates.sort((first, second) => times[first].total - times[second].total)[0];
    }).filter((index) => index !== undefined);
  }

  function drawBars(times, limits, best) {
    const shown = [...(best < 0 ? [] : [best]), ...alternatives(times, limits, best)];
    const longest = Math.max(...shown.map((index) => times[index].total), 1e-9);
    document.getElementById("plan-bars").replaceChildren(...shown.map((index) => {
      const row = document.createElement("div");
      row.className = index === best ? "run best" : "run";
      const name = document.createElement("span"), bar = document.createElement("span"), total = document.createElement("span");
      [name.className, bar.className, total.className] = ["run-name", "run-bar", "run-total"];
      const code = document.createElement("code");
      code.textContent = placements[index].name;
      name.append(code);
      total.textContent = msText(times[index].total);
      data.parts.forEach(([part, style]) => {
        const piece = document.createElement("span");
        piece.className = style;
        piece.style.width = `${(100 * times[index][part]) / longest}%`;
        piece.title = `${part} ${times[index][part].toFixed(2)} ms`;
        bar.append(piece);
      });
      row.append(name, bar, total);
      return row;
    }));
  }

  // ---- the front ----
  const points = document.querySelector('#front-drawing [data-part="points"]');
  function drawFront(times, limits, best) {
    const front = frontOf(times);
    const left = Number(points.dataset.left), right = Number(points.dataset.right);
    points.querySelectorAll("circle").forEach((circle) => {
      const index = Number(circle.dataset.placement), placement = placements[index];
      const share = (Math.log10(Math.max(times[index].total, 1e-3)) - left) / (right - left);
      circle.setAttribute("cx", `${100 * Math.min(1, Math.max(0, share))}%`);
      circle.classList.toggle("on-front", front.has(index));
      circle.classList.toggle("best", index === best);
      circle.classList.toggle("excluded", !keeps(placement, times[index], limits));
      const source = placement.source ? ` (${placement.source})` : "";
      circle.dataset.tip = `${placement.name}\n${msText(times[index].total)}, ${percentText(placement)}${source}` +
        `\n${digits(placement.up + placement.down, 4)} bytes on the wire\ndevice ${msText(times[index].device)}, link ${msText(times[index].link)}, server ${msText(times[index].server)}`;
    });
  }

  // ---- the map ----
  const map = document.getElementById("map-drawing"), cells = map.querySelector('[data-part="cells"]');
  const COLUMNS = 52, ROWS = 24, RATES = [3, 9.5], SPEEDS = [-1.5, 1.5];
  const between = ([low, high], share) => low + share * (high - low);
  let best = [];

  function drawMap(now) {
    best = Array.from({ length: ROWS }, () => []);
    for (let column = 0; column < COLUMNS; column++) {
      const carried = overLink(10 ** between(RATES, (column + 0.5) / COLUMNS), now.rtt);
      for (let row = 0; row < ROWS; row++) {
        best[row].push(bestOf(withDevice(carried, 10 ** between(SPEEDS, 1 - (row + 0.5) / ROWS)), now));
      }
    }
    const names = [...new Set(best.flat())].filter((index) => index >= 0).sort((first, second) => first - second);
    // A kind has the colour that it has in the front; several placements of a kind differ in strength.
    const shade = (index) => `var(--shade-${data.shades[placements[index].kind]})`;
    const strength = (index) => {
      const alike = names.filter((other) => placements[other].kind === placements[index].kind);
      return alike.length === 1 ? 1 : 1 - (0.75 * alike.indexOf(index)) / (alike.length - 1);
    };
    const height = Number(map.getAttribute("height")) / ROWS;
    cells.replaceChildren();
    best.forEach((row, number) => {
      for (let start = 0, end; start < COLUMNS; start = end) {
        for (end = start + 1; end < COLUMNS && row[end] === row[start]; end++);
        if (row[start] < 0) continue;
        const cell = document.createElementNS(map.namespaceURI, "rect");
        const attributes = { x: `${(100 * start) / COLUMNS}%`, width: `${(100 * (end - start)) / COLUMNS}%`, y: number * height, height: height + 0.4, fill: shade(row[start]), "fill-opacity": strength(row[start]) };
        Object.entries(attributes).forEach(([name, value]) => cell.setAttribute(name, value));
        cells.append(cell);
      }
    });
    document.getElementById("map-legend").replaceChildren(...names.map((index) => {
      const entry = document.createElement("span"), key = document.createElement("span");
      entry.className = "legend-fixed";
      key.className = "run-key";
      key.style.background = shade(index);
      key.style.opacity = strength(index);
      entry.append(key, placements[index].name);
      return entry;
    }));
    const here = map.querySelector('[data-part="here"]');
    const place = (value, [low, high]) => Math.min(1, Math.max(0, (value - low) / (high - low)));
    here.setAttribute("x", `${100 * place(Math.log10(now.rate), RATES)}%`);
    here.setAttribute("y", (1 - place(Math.log10(now.speed), SPEEDS)) * height * ROWS);
  }

  const mapReader = {
    at(x, y) {
      const box = map.getBoundingClientRect();
      const column = Math.floor(((x - box.left) / box.width) * COLUMNS), row = Math.floor(((y - box.top) / box.height) * ROWS);
      return best[row] && best[row][column] !== undefined ? [row, column] : null;
    },
    move(place, key) {
      const [row, column] = place ?? [Math.floor(ROWS / 2), -1];
      return { ArrowRight: [row, Math.min(column + 1, COLUMNS - 1)], ArrowLeft: [row, Math.max(column - 1, 0)],
        ArrowUp: [Math.max(row - 1, 0), Math.max(column, 0)], ArrowDown: [Math.min(row + 1, ROWS - 1), Math.max(column, 0)],
        Home: [row, 0], End: [row, COLUMNS - 1] }[key];
    },
    describe([row, column]) {
      const box = map.getBoundingClientRect(), width = box.width / COLUMNS, height = box.height / ROWS;
      const rate = 10 ** between(RATES, (column + 0.5) / COLUMNS), speed = 10 ** between(SPEEDS, 1 - (row + 0.5) / ROWS);
      const index = best[row][column];
      let words = "No placement keeps the limits";
      if (index >= 0) {
        const times = withDevice(overLink(rate, settings().rtt), speed)[index];
        words = `${placements[index].name}\n${msText(times.total)}, ${percentText(placements[index])}`;
      }
      const left = box.left + column * width, top = box.top + row * height;
      return { words: `${words}\n${rateText(rate)}, device ${digits(speed)} × as fast`, box: { left, right: left + width, top, bottom: top + height }, cut: null };
    },
  };

  // ---- start ----
  function update() {
    const now = settings();
    const times = withDevice(overLink(now.rate, now.rtt), now.speed);
    const index = bestOf(times, now);
    label(now);
    describe(times, now, index);
    drawBars(times, now, index);
    drawFront(times, now, index);
    drawMap(now);
    section.dataset.best = index < 0 ? "" : placements[index].name;
    section.dataset.ms = JSON.stringify(Object.fromEntries(placements.map((placement, place) => [placement.name, times[place].total])));
  }

  let waiting = false;
  Object.values(inputs).forEach((input) => input.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  }));
  document.getElementById("plan-reset").addEventListener("click", () => {
    Object.entries(inputs).forEach(([name, input]) => { input.value = planned[name]; });
    update();
  });
  Object.entries(inputs).forEach(([name, input]) => { input.value = input.getAttribute("value"); planned[name] = input.value; });
  CHARTS.attach(document.getElementById("plot-map"), mapReader);
  update();
  section.dataset.ready = "yes";
})();
