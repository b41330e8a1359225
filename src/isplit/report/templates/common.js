// What all figures share. Loaded first; the other scripts see these names.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const BLUE = "#1d4f91", ACCENT = "#c2410c", SLATE = "#4b5563", REFERENCE = "#a3abb8", GRID = "#e8ebef", INK = "#1f2937", EDGE = "#9ca3af";
const FONT = { family: getComputedStyle(document.body).fontFamily, size: 12, color: INK };
const CONFIG = { responsive: true, displaylogo: false, doubleClick: "reset", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
const HOVER_LABEL = { bgcolor: "#fff", bordercolor: EDGE, font: { size: 12, color: INK }, align: "left" };

// Paper is narrower than the screen, and a plot does not shrink by itself: 182 mm between the margins of A4.
function fitPaper(divs) {
  window.addEventListener("beforeprint", () => divs.forEach((div) => Plotly.relayout(div, { width: 680 })));
  window.addEventListener("afterprint", () => divs.forEach((div) => Plotly.relayout(div, { width: null, autosize: true })));
}
