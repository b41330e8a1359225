// Draws accuracy over bytes, and predicted against measured. The numbers and texts are worked out in Python.
"use strict";
(() => {
  const groups = DATA.splits;
  const bytesDiv = document.getElementById("figure-bytes");
  const pairsDiv = document.getElementById("figure-pairs");
  if (!bytesDiv) return;
  const select = document.getElementById("split-group");

  // Early cuts blue, late ones red; read against white.
  const STOPS = [[29, 79, 145], [14, 124, 134], [110, 131, 43], [194, 129, 12], [190, 40, 70]];
  function shade(place) {
    const at = place * (STOPS.length - 1), low = Math.min(Math.floor(at), STOPS.length - 2);
    const mix = STOPS[low].map((value, i) => Math.round(value + (at - low) * (STOPS[low + 1][i] - value)));
    return `rgb(${mix.join(",")})`;
  }

  const NAKED = { gridcolor: GRID, zeroline: false, ticks: "outside", ticklen: 4, tickcolor: EDGE, showline: true, linecolor: EDGE };
  const faint = (color) => color.replace("rgb(", "rgba(").replace(")", ",0.35)");
  const HOVER = "%{customdata}<extra></extra>";

  function dots(found, more, bars = EDGE) {
    return {
      type: "scatter", x: found.map((dot) => dot.bytes), y: found.map((dot) => dot.accuracy), customdata: found.map((dot) => dot.hover),
      hovertemplate: HOVER,
      error_y: { type: "data", symmetric: false, array: found.map((dot) => dot.above), arrayminus: found.map((dot) => dot.below), thickness: 1, width: 2, color: bars },
      ...more,
    };
  }

  function lineTrace(line) {
    const color = shade(line.shade);
    return dots(line.dots, {
      name: line.label, mode: "lines+markers", line: { color, width: 1.6, dash: line.dashed ? "dot" : "solid" }, marker: { size: 6, color },
    }, faint(color));
  }

  function trainedTrace(line) {
    const color = shade(line.shade);
    return dots(line.dots, {
      name: `${line.label}, trained`, mode: "markers", marker: { symbol: "star", size: 13, color, line: { color: "#fff", width: 1 } },
    }, faint(color));
  }

  function imageTraces(group) {
    if (!group.images.length) return [];
    const best = group.efficient.map((index) => group.images[index]);
    const rest = group.images.filter((_, index) => !group.efficient.includes(index));
    const plain = { error_y: { visible: false } };
    return [
      dots(rest, { ...plain, name: "remote, other settings", mode: "markers", marker: { symbol: "square-open", size: 5, color: REFERENCE } }),
      dots(best, { name: "remote: JPEG, WebP", mode: "lines+markers", line: { color: SLATE, width: 1.6, dash: "dash" },
        marker: { symbol: "square", size: 6, color: SLATE } }),
    ];
  }

  function everyDot(group) {
    return [...group.lines, ...group.trained].flatMap((line) => line.dots).concat(group.efficient.map((index) => group.images[index]));
  }

  // 1, 2 and 5 of every power of ten, written out.
  function byteTicks([low, high]) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++) found.push(...[1, 2, 5].map((digit) => digit * 10 ** power));
    return { tickmode: "array", tickvals: found, ticktext: found.map((count) => count.toLocaleString("en")) };
  }

  function xRange(group) {
    const logs = [...everyDot(group), ...group.images].map((dot) => Math.log10(dot.bytes));
    const low = Math.min(...logs), high = Math.max(...logs), pad = 0.06 * Math.max(high - low, 0.5);
    return [low - pad, high + pad];
  }

  // What is far below the rest (an image at quality 5) may leave the picture, the splits may not.
  function yRange(group) {
    const shown = everyDot(group);
    const ends = shown.flatMap((dot) => [dot.accuracy - dot.below, dot.accuracy + dot.above]);
    if (group.whole) ends.push(group.whole.low, group.whole.high);
    const low = Math.max(0, Math.min(...ends)), high = Math.min(100, Math.max(...ends)), pad = 0.05 * Math.max(high - low, 1);
    return [low - pad, high + pad];
  }

  function wholeShapes(whole) {
    if (!whole) return { shapes: [], annotations: [] };
    const across = { xref: "paper", x0: 0, x1: 1, layer: "below" };
    return {
      shapes: [
        { type: "rect", ...across, y0: whole.low, y1: whole.high, fillcolor: ACCENT, opacity: 0.09, line: { width: 0 } },
        { type: "line", ...across, y0: whole.accuracy, y1: whole.accuracy, line: { color: ACCENT, width: 1.4 } },
      ],
      annotations: [{ text: `local, whole model: ${whole.accuracy.toFixed(1)} %`, xref: "paper", x: 0, xanchor: "left", xshift: 4,
        y: whole.accuracy, yanchor: "bottom", showarrow: false, font: { size: 11, color: ACCENT } }],
    };
  }

  function bytesLayout(group, wide) {
    const legend = wide ? { x: 1.01, y: 1 } : { orientation: "h", x: 0, y: -0.2, yanchor: "top" };
    return {
      font: FONT, margin: { l: 64, r: 20, t: 12, b: 52 }, hovermode: "closest", hoverlabel: HOVER_LABEL, showlegend: true,
      height: wide ? 560 : 620, legend: { ...legend, font: { size: 11 }, itemsizing: "constant" },
      plot_bgcolor: "rgba(0,0,0,0)", paper_bgcolor: "rgba(0,0,0,0)",
      xaxis: { ...NAKED, type: "log", range: xRange(group), ...byteTicks(xRange(group)), title: { text: "bytes per image, mean", standoff: 8 } },
      yaxis: { ...NAKED, range: yRange(group), title: { text: "accuracy, %", standoff: 8 } },
      ...wholeShapes(group.whole),
    };
  }

  function pairsLayout(group) {
    const ends = group.pairs.flatMap((pair) => [pair.x - pair.x_below, pair.x + pair.x_above, pair.y - pair.y_below, pair.y + pair.y_above]);
    // These classes may have no trained split while others have.
    const low = ends.length ? Math.max(0, Math.min(...ends)) - 1 : 0, high = ends.length ? Math.min(100, Math.max(...ends)) + 1 : 100;
    const first = group.calibrated ? "predicted accuracy after training, %" : "accuracy before training, %";
    const both = { ...NAKED, range: [low, high] };
    return {
      font: FONT, margin: { l: 64, r: 20, t: 12, b: 52 }, hovermode: "closest", hoverlabel: HOVER_LABEL, showlegend: false, height: 460,
      plot_bgcolor: "rgba(0,0,0,0)", paper_bgcolor: "rgba(0,0,0,0)",
      xaxis: { ...both, title: { text: first, standoff: 8 } }, yaxis: { ...both, title: { text: "accuracy after training, %", standoff: 8 } },
      shapes: [{ type: "line", x0: low, y0: low, x1: high, y1: high, layer: "below", line: { color: EDGE, width: 1, dash: "dot" } }],
    };
  }

  function pairsTrace(group) {
    const bars = (above, below) => ({ type: "data", symmetric: false, array: group.pairs.map((pair) => pair[above]),
      arrayminus: group.pairs.map((pair) => pair[below]), thickness: 1, width: 2, color: EDGE });
    return {
      type: "scatter", name: "pairs", mode: "markers", x: group.pairs.map((pair) => pair.x), y: group.pairs.map((pair) => pair.y),
      customdata: group.pairs.map((pair) => pair.hover), hovertemplate: HOVER,
      error_x: bars("x_above", "x_below"), error_y: bars("y_above", "y_below"),
      marker: { size: 10, color: group.pairs.map((pair) => shade(pair.shade)), line: { color: "#fff", width: 1 } },
    };
  }

  const isWide = () => bytesDiv.clientWidth > 700;
  let wide = isWide();

  function draw() {
    const group = groups[Number(select.value)] || groups[0];
    const traces = [...imageTraces(group), ...group.lines.map(lineTrace), ...group.trained.map(trainedTrace)];
    Plotly.react(bytesDiv, traces, bytesLayout(group, wide), CONFIG);
    if (pairsDiv) Plotly.react(pairsDiv, [pairsTrace(group)], pairsLayout(group), CONFIG);
  }

  // The legend stands beside the plot where there is room, and below it where not.
  new ResizeObserver(() => {
    if (isWide() !== wide) {
      wide = !wide;
      draw();
    }
  }).observe(bytesDiv);

  draw();
  select.addEventListener("change", draw);
  fitPaper(pairsDiv ? [bytesDiv, pairsDiv] : [bytesDiv]);
})();
