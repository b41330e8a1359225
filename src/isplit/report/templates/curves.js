// Figures 1 and 2: draws the chosen curve into the figure that came with the page, and says what each cut and cell is.
"use strict";
(async () => {
  const data = await CHARTS.unpack("curves");
  const select = document.getElementById("class-select");
  const count = data.cuts.length;
  const all = data.curves[0];
  const chosen = () => data.curves[Number(select.value)] || all;
  const figures = (value, digits = 3) => Number(value.toPrecision(digits)).toLocaleString("en");

  // ---- scales; a missing, zero or negative value has no logarithm and is a gap ----
  const share = (index, pad) => (index + pad) / (count - 1 + 2 * pad);
  const log10 = (value) => (value !== null && value > 0 ? Math.log10(value) : null);
  const base = data.top + data.height;
  const scale = ([low, high]) => (value) => base - ((value - low) / (high - low)) * data.height;

  // ---- figure 1 ----
  const drawing = document.getElementById("curve-drawing");
  const part = (name) => drawing.querySelector(`[data-part="${name}"]`);

  function add(parent, tag, attributes, text) {
    const shape = document.createElementNS(drawing.namespaceURI, tag);
    Object.entries(attributes).forEach(([name, value]) => shape.setAttribute(name, value));
    if (text !== undefined) shape.textContent = text;
    parent.append(shape);
    return shape;
  }

  function addText(parent, x, y, text, style, shift, anchor) {
    const box = add(parent, "svg", { x, y, overflow: "visible" });
    add(box, "text", { class: style, transform: `translate(${shift})`, "text-anchor": anchor }, text);
  }

  // Runs of indices without a gap.
  function runs(values) {
    const found = [[]];
    values.forEach((value, index) => (value === null ? found.push([]) : found.at(-1).push(index)));
    return found.filter((run) => run.length);
  }

  const outline = (points) => `M${points.map(([index, y]) => `${(1000 * share(index, 0.6)).toFixed(2)} ${y.toFixed(2)}`).join("L")}`;
  const line = (values, y) => runs(values).map((run) => outline(run.map((index) => [index, y(values[index])]))).join("");

  // Two standard errors around the value; a gap where the lower end is not positive.
  function bandOf(series) {
    return series.v.map((value, index) => {
      const error = series.e[index];
      if (value === null || error === null) return null;
      const low = log10(value - 2 * error), high = log10(value + 2 * error);
      return low === null || high === null ? null : [low, high];
    });
  }

  function drawBand(series, y) {
    const ends = bandOf(series);
    const areas = runs(ends).map((run) => {
      const above = run.map((index) => [index, y(ends[index][1])]);
      const below = run.map((index) => [index, y(ends[index][0])]).reverse();
      return `${outline([...above, ...below])}Z`;
    });
    part("band").querySelector("path").setAttribute("d", areas.join(""));
  }

  function drawAxis(series, y) {
    const axis = part("upper-axis");
    axis.replaceChildren();
    series.ticks.forEach(([value, label]) => {
      add(axis, "line", { x1: "0%", x2: "100%", y1: y(value), y2: y(value), class: "grid" });
      addText(axis, "0%", y(value), label, "tick", "-8 4", "end");
    });
  }

  function drawMarks(series, logs, y) {
    const marks = part("marks"), guides = part("guides");
    marks.replaceChildren();
    guides.replaceChildren();
    series.marks.forEach(([index, kind, rank]) => {
      if (logs[index] === null) return;
      const x = `${100 * share(index, 0.6)}%`, height = y(logs[index]);
      const key = document.querySelector(`[data-kind="${kind}"] use`);
      add(marks, "use", { href: key.getAttribute("href"), class: key.getAttribute("class"), x, y: height, "data-series": kind });
      if (rank === null) return;
      addText(marks, x, height, String(rank), "rank", "0 -12", "middle");
      if (rank > 3) return;
      add(guides, "line", { x1: x, x2: x, y1: height, y2: base, class: "guide" });
      add(guides, "line", { x1: x, x2: x, y1: data.lower_top, y2: data.bottom, class: "guide" });
    });
  }

  function drawCurve() {
    const series = chosen();
    const y = scale(series.range);
    const logs = series.v.map(log10);
    drawAxis(series, y);
    drawBand(series, y);
    part("curve").querySelector("path").setAttribute("d", line(logs, y));
    part("reference").querySelector("path").setAttribute("d", series === all ? "" : line(all.v.map(log10), y));
    const dots = part("dots");
    const symbol = count > 60 ? "#mark-point" : "#mark-dot";
    dots.replaceChildren();
    logs.forEach((value, index) => {
      if (value !== null) add(dots, "use", { href: symbol, class: "curve-dot", x: `${100 * share(index, 0.6)}%`, y: y(value) });
    });
    drawMarks(series, logs, y);
    const kinds = new Set(series.marks.map(([, kind]) => kind));
    document.querySelectorAll("[data-kind]").forEach((item) => { item.hidden = !kinds.has(item.dataset.kind); });
    document.querySelectorAll(".needs-class").forEach((item) => { item.hidden = series === all; });
    const section = document.getElementById("curve-section");
    section.querySelectorAll("[data-toggles]").forEach((entry) => CHARTS.setShown(entry, CHARTS.isShown(entry)));
  }

  // ---- what is said about a cut ----
  function wordsOfCut(index) {
    const series = chosen(), cut = data.cuts[index];
    const value = series.v[index], error = series.e[index];
    const amount = value === null ? "not known" : value.toExponential(2) + (error === null ? "" : ` ± ${error.toExponential(1)} (s.e.)`);
    const mark = series.marks.find(([place, , rank]) => place === index && rank !== null);
    return `${cut.name}${mark ? `, candidate ${mark[2]}` : ""}\n${series.label}: ${data.method} ${amount}\n${cut.text}`;
  }

  const columns = {
    at(x, y) {
      const box = drawing.getBoundingClientRect();
      if (!count || y < box.top || y > box.bottom) return null;
      const step = box.width / (count - 1 + 1.2);
      const index = Math.round((x - box.left) / step - 0.6);
      return index >= 0 && index < count ? index : null;
    },
    move: (index, key) => CHARTS.step(index ?? -1, count, key),
    describe(index) {
      const box = drawing.getBoundingClientRect();
      const x = box.left + box.width * share(index, 0.6);
      const value = log10(chosen().v[index]);
      const y = box.top + (value === null ? data.top : scale(chosen().range)(value));
      return { words: wordsOfCut(index), box: { left: x, right: x, top: y, bottom: y }, cut: String(data.cuts[index].number) };
    },
  };

  // ---- figure 2 ----
  const classes = data.curves.filter((series) => series.kind === "class");
  const map = document.getElementById("classes-drawing");
  const cell = map.querySelector('[data-part="cell"]');
  const isRelative = () => document.querySelector('input[name="heat"]:checked').value === "relative";

  function wordsOfCell([row, column]) {
    const value = classes[row].v[column], average = all.v[column];
    let amount = "not known";
    if (isRelative() && log10(value) !== null && log10(average) !== null) amount = `${figures(value / average)} × ${all.label}`;
    if (!isRelative() && log10(value) !== null) amount = `log₁₀ ${data.method} ${log10(value).toFixed(2).replace("-", "−")}`;
    return `${classes[row].label}\n${data.cuts[column].name}\n${amount}`;
  }

  const cells = {
    at(x, y) {
      const box = map.getBoundingClientRect();
      const column = Math.floor(((x - box.left) / box.width) * count), row = Math.floor(((y - box.top) / box.height) * classes.length);
      return column >= 0 && column < count && row >= 0 && row < classes.length ? [row, column] : null;
    },
    move(place, key) {
      if (!classes.length || !count) return undefined;
      const [row, column] = place ?? [0, -1];
      const next = {
        ArrowRight: [row, Math.min(column + 1, count - 1)], ArrowLeft: [row, Math.max(column - 1, 0)],
        ArrowDown: [Math.min(row + 1, classes.length - 1), Math.max(column, 0)], ArrowUp: [Math.max(row - 1, 0), Math.max(column, 0)],
        Home: [row, 0], End: [row, count - 1],
      };
      return next[key];
    },
    mark(place) {
      cell.classList.toggle("active", place !== null);
      if (place === null) return;
      cell.setAttribute("x", `${(100 * place[1]) / count}%`);
      cell.setAttribute("y", (place[0] * Number(map.getAttribute("height"))) / classes.length);
    },
    describe(place) {
      return { words: wordsOfCell(place), box: cell.getBoundingClientRect(), cut: String(data.cuts[place[1]].number) };
    },
  };

  CHARTS.attach(document.getElementById("figure-curve"), columns);
  CHARTS.attach(document.getElementById("figure-classes"), cells);
  select.addEventListener("change", drawCurve);
  if (chosen() !== all) drawCurve(); // a browser may restore the choice when it reloads the page
  document.documentElement.dataset.ready = "yes";
})();
