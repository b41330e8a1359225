// Draws both figures from the series in #data. The numbers are worked out in Python; here is only ink.
"use strict";
(() => {
  const data = DATA;
  const curveDiv = document.getElementById("figure-curve");
  const heatDiv = document.getElementById("figure-classes");
  const select = document.getElementById("class-select");
  const all = data.curves[0];
  const xs = data.cuts.map((_, index) => index);

  const SYMBOLS = {
    "maximum": { symbol: "star", size: 17, color: ACCENT, line: { color: "#fff", width: 1 } },
    "unsettled": { symbol: "star", size: 16, color: "#fff", line: { color: ACCENT, width: 1.6 } },
    "size": { symbol: "diamond", size: 11, color: "#fff", line: { color: ACCENT, width: 1.6 } },
    "trend": { symbol: "triangle-up", size: 12, color: "#fff", line: { color: ACCENT, width: 1.6 } },
    "class-maximum": { symbol: "circle", size: 10, color: BLUE, line: { color: "#fff", width: 1.5 } },
  };

  // Plotly reads tags in every text that it draws; names are only names.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const figures = (value, digits = 3) => Number(value.toPrecision(digits)).toLocaleString("en");

  // ---- the shared axis of cuts: as many names as there is room for, candidates first ----
  const LIMIT = 24;
  // The end tells cuts apart, the start tells classes apart.
  const shortCut = (name) => plain(name.length > LIMIT ? "…" + name.slice(1 - LIMIT) : name);
  const shortClass = (name) => plain(name.length > LIMIT ? name.slice(0, LIMIT - 1) + "…" : name);

  function ticksBetween(from, to, room, first) {
    const shown = xs.filter((x) => x >= from && x <= to);
    const step = Math.max(1, Math.ceil(shown.length / Math.max(room, 1)));
    const chosen = [];
    for (const x of [...first, ...shown.filter((_, i) => i % step === 0), ...shown]) {
      if (x >= from && x <= to && chosen.every((other) => Math.abs(x - other) >= step)) chosen.push(x);
    }
    return chosen.sort((a, b) => a - b);
  }

  function cutAxis(width, first, range) {
    const [from, to] = range || [-0.6, xs.length - 0.4];
    const ticks = ticksBetween(from, to, Math.floor(width / 15), first);
    const names = ticks.map((x) => shortCut(data.cuts[x].name));
    const longest = Math.max(...names.map((name) => name.length), 1);
    const slot = width / Math.max(ticks.length, 1);
    const tickangle = slot > longest * 7 ? 0 : slot > 34 ? -45 : -90;
    return {
      range: [from, to], tickmode: "array", tickvals: ticks, ticktext: names, tickangle, automargin: true,
      tickfont: { size: ticks.length > 40 ? 10 : 11 }, showgrid: false, zeroline: false, ticks: "outside", ticklen: 4,
      tickcolor: EDGE,
    };
  }

  // ---- figure 1 ----
  function hoverText(series, x) {
    const cut = data.cuts[x];
    const value = series.value[x];
    const error = series.stderr[x];
    const amount = value === null ? "not known" : value.toExponential(2) + (error === null ? "" : ` ± ${error.toExponential(1)} (s.e.)`);
    const rank = series.marks.find((mark) => mark.index === x && mark.rank !== null);
    return `<b>${plain(cut.name)}</b>${rank ? `  candidate ${rank.rank}` : ""}<br>${plain(series.label)}: ${data.method} ${amount}` +
      `<br>${cut.shape}, ${figures(cut.kib, 4)} KiB = ${figures(cut.of_input)} × fp32 input` +
      `<br>head: ${figures(100 * cut.head_mac_share)} % of the MACs`;
  }

  // One closed polygon for each run without gaps, so that nothing is filled across a gap.
  function bandOutline(series) {
    const x = [], y = [];
    let run = [];
    const close = () => {
      if (run.length) {
        x.push(...run, ...run.slice().reverse(), null);
        y.push(...run.map((i) => series.high[i]), ...run.slice().reverse().map((i) => series.low[i]), null);
      }
      run = [];
    };
    xs.forEach((i) => (series.low[i] === null ? close() : run.push(i)));
    close();
    return { x, y };
  }

  function markTraces(series) {
    return Object.entries(SYMBOLS).map(([kind, marker]) => {
      const marks = series.marks.filter((mark) => mark.kind === kind && series.log10[mark.index] !== null);
      return {
        name: `mark ${kind}`, mode: "markers+text", marker, hoverinfo: "skip", cliponaxis: false,
        x: marks.map((mark) => mark.index), y: marks.map((mark) => series.log10[mark.index]),
        text: marks.map((mark) => (mark.rank === null ? "" : `<b>${mark.rank}</b>`)),
        textposition: "top center", textfont: { size: 12, color: INK },
      };
    });
  }

  function curveTraces(series) {
    const dot = xs.length > 60 ? 3.5 : 5.5;
    const hover = { hovertext: xs.map((x) => hoverText(series, x)), hovertemplate: "%{hovertext}<extra></extra>" };
    const reference = series === all ? [] : [{
      name: "reference", x: xs, y: all.log10, mode: "lines", line: { color: REFERENCE, width: 2 }, hoverinfo: "skip",
    }];
    return [
      ...reference,
      { name: "band", ...bandOutline(series), mode: "lines", fill: "toself", fillcolor: "rgba(29,79,145,0.16)",
        line: { color: "rgba(29,79,145,0.16)", width: 1 }, hoverinfo: "skip" },
      { name: "curve", x: xs, y: series.log10, mode: "lines+markers", line: { color: BLUE, width: 2 },
        marker: { size: dot, color: BLUE }, ...hover },
      { name: "size", x: xs, y: data.size.kib, yaxis: "y2", mode: "lines+markers", line: { color: SLATE, width: 2 },
        marker: { size: dot, color: SLATE }, ...hover },
      ...markTraces(series),
    ];
  }

  function inputLines() {
    const lines = [["input, fp32", data.size.input_fp32_kib], ["input, uint8", data.size.input_uint8_kib]];
    return {
      shapes: lines.map(([, kib]) => ({
        type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: kib, y1: kib, line: { color: SLATE, width: 1.2, dash: "dash" },
      })),
      annotations: lines.map(([name, kib]) => ({
        text: `${name}<br>${figures(kib, 4)} KiB`, xref: "paper", x: 1, xanchor: "left", xshift: 5, align: "left",
        yref: "y2", y: Math.log10(kib), showarrow: false, font: { size: 11, color: SLATE },
      })),
    };
  }

  // From the mark down through both panels, and the line that the upper panel stands on.
  function guides(series, bottom) {
    const style = { type: "line", layer: "below", line: { color: ACCENT, width: 1, dash: "dot" }, opacity: 0.5 };
    const marks = series.marks.filter((mark) => mark.rank !== null && mark.rank <= 3 && series.log10[mark.index] !== null);
    return [
      ...marks.flatMap(({ index }) => [
        { ...style, x0: index, x1: index, yref: "y", y0: bottom, y1: series.log10[index] },
        { ...style, x0: index, x1: index, yref: "y2 domain", y0: 0, y1: 1 },
      ]),
      { type: "line", xref: "paper", x0: 0, x1: 1, yref: "y domain", y0: 0, y1: 0, line: { color: EDGE, width: 1 } },
    ];
  }

  function sizeRange() {
    const logs = [...data.size.kib, data.size.input_fp32_kib, data.size.input_uint8_kib].map(Math.log10);
    const low = Math.min(...logs), high = Math.max(...logs), pad = 0.08 * Math.max(high - low, 0.5);
    return { range: [low - pad, high + pad], dtick: Math.floor(high + pad) - Math.ceil(low - pad) >= 1 ? 1 : "D2" };
  }

  const MARGIN = { l: 72, r: 92, t: 12, b: 40 };
  const plotWidth = (div) => Math.max(120, div.clientWidth - MARGIN.l - MARGIN.r);
  const ranked = (series) => series.marks.slice().sort((a, b) => a.rank - b.rank).map((mark) => mark.index);

  function curveLayout(series, range) {
    const lines = inputLines();
    const axis = { gridcolor: GRID, zeroline: false, ticks: "outside", ticklen: 4, tickcolor: EDGE, showline: true, linecolor: EDGE };
    const limits = [Math.min(series.range[0], all.range[0]), Math.max(series.range[1], all.range[1])];
    return {
      font: FONT, margin: MARGIN, showlegend: false, hovermode: "closest", hoverdistance: 60,
      hoverlabel: HOVER_LABEL,
      plot_bgcolor: "rgba(0,0,0,0)", paper_bgcolor: "rgba(0,0,0,0)",
      xaxis: { ...cutAxis(plotWidth(curveDiv), ranked(series), range), anchor: "y2", showline: true, linecolor: EDGE, showspikes: true, spikemode: "across",
        spikesnap: "data", spikethickness: 1, spikecolor: EDGE, spikedash: "solid" },
      yaxis: { ...axis, domain: [0.41, 1], title: { text: `log<sub>10</sub> ${plain(data.method)}`, standoff: 8 },
        range: limits },
      yaxis2: { ...axis, ...sizeRange(), type: "log", domain: [0, 0.34], tickformat: ",~r",
        title: { text: "KiB per image", standoff: 8 } },
      shapes: [...guides(series, limits[0]), ...lines.shapes], annotations: lines.annotations,
    };
  }

  const chosen = () => data.curves[Number(select.value)] || all;

  function drawCurve() {
    const series = chosen();
    const kinds = new Set(series.marks.map((mark) => mark.kind));
    document.querySelectorAll("[data-kind]").forEach((item) => { item.hidden = !kinds.has(item.dataset.kind); });
    document.querySelectorAll(".needs-class").forEach((item) => { item.hidden = series === all; });
    return Plotly.react(curveDiv, curveTraces(series), curveLayout(series), CONFIG);
  }

  // After zooming there is room for other names than before.
  function renameCuts(div, first) {
    const range = div.layout.xaxis.range.slice();
    const axis = cutAxis(plotWidth(div), first, range);
    return Plotly.relayout(div, {
      "xaxis.tickvals": axis.tickvals, "xaxis.ticktext": axis.ticktext, "xaxis.tickangle": axis.tickangle,
    });
  }

  function followZoom(div, first) {
    div.on("plotly_relayout", (change) => {
      const keys = Object.keys(change);
      if (keys.some((name) => name.startsWith("xaxis.range") || name === "xaxis.autorange" || name === "autosize")) renameCuts(div, first());
    });
  }

  // ---- figure 2 ----
  const DIVERGING = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]];
  const HEAT_MARGIN = { l: 60, r: 20, t: 8, b: 40 };

  function heatRow() {
    return Math.min(26, Math.max(2, 1600 / Math.max(data.heat.labels.length, 1)));
  }

  function heatTraces(relative) {
    const values = relative ? data.heat.relative : data.heat.absolute;
    const largest = values.flat().reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0.01);
    const colours = relative
      ? { colorscale: DIVERGING, zmin: -largest, zmax: largest }
      : { colorscale: "Viridis" };
    const rows = data.heat.labels.map((_, index) => index);
    const text = rows.map((row) => xs.map((x) => {
      const value = values[row][x];
      const amount = value === null ? "not known" : (relative ? `${figures(10 ** value)} × ${plain(all.label)}` : `log<sub>10</sub> ${value.toFixed(2)}`);
      return `<b>${plain(data.heat.labels[row])}</b><br>${plain(data.cuts[x].name)}<br>${amount}`;
    }));
    const peaks = rows.filter((row) => data.heat.peaks[row] !== null);
    const title = relative ? `log<sub>10</sub> of the ratio<br>to ${shortClass(all.label)}` : `log<sub>10</sub> ${plain(data.method)}`;
    return [
      { type: "heatmap", name: "classes", x: xs, y: rows, z: values, ...colours, text, hovertemplate: "%{text}<extra></extra>",
        hoverongaps: false, xgap: xs.length > 60 ? 0 : 1, ygap: heatRow() < 12 ? 0 : 1,
        colorbar: { title: { text: title, side: "top", font: { size: 11 } }, thickness: 12, outlinewidth: 0, y: 1, yanchor: "top", ypad: 0,
          lenmode: "pixels", len: Math.min(260, Math.max(110, data.heat.labels.length * heatRow())), tickfont: { size: 11 } } },
      { type: "scatter", name: "peaks", mode: "markers", x: peaks.map((row) => data.heat.peaks[row]), y: peaks, hoverinfo: "skip",
        marker: { symbol: "circle", size: Math.min(9, Math.max(3, heatRow() - 1)), color: "#fff", line: { color: "#111827", width: 1.5 } } },
    ];
  }

  function heatLayout() {
    const row = heatRow();
    const every = Math.ceil(11 / row);
    const rows = data.heat.labels.map((_, index) => index).filter((index) => index % every === 0);
    return {
      font: FONT, margin: HEAT_MARGIN, hoverlabel: HOVER_LABEL,
      plot_bgcolor: "#cbd0d7", paper_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      height: Math.max(240, data.heat.labels.length * row + 150),
      xaxis: { ...cutAxis(plotWidth(heatDiv), ranked(all)), range: [-0.5, xs.length - 0.5] },
      yaxis: { range: [data.heat.labels.length - 0.5, -0.5], tickmode: "array", tickvals: rows, automargin: true, zeroline: false,
        showgrid: false, ticktext: rows.map((index) => shortClass(data.heat.labels[index])), tickfont: { size: Math.min(12, row * every - 1) } },
    };
  }

  const isRelative = () => document.querySelector('input[name="heat"]:checked').value === "relative";
  const drawHeat = () => Plotly.react(heatDiv, heatTraces(isRelative()), heatLayout(), CONFIG);

  // ---- start ----
  drawCurve();
  drawHeat();
  select.addEventListener("change", drawCurve);
  document.querySelectorAll('input[name="heat"]').forEach((input) => input.addEventListener("change", drawHeat));
  followZoom(curveDiv, () => ranked(chosen()));
  followZoom(heatDiv, () => ranked(all));
  fitPaper([curveDiv, heatDiv]);
})();
