// Reading charts: what the pointer or the arrow keys are at, the same cut in all figures and tables, and legends.
// Drawings come with the page; the words of each point stand at it. curves.js adds the charts whose words it makes up.
"use strict";
const CHARTS = (() => {
  const tip = document.getElementById("tip");
  const spoken = document.getElementById("spoken");
  const REACH_PX = 40;

  // ---- the box that says what a point is ----
  function show(words, box) {
    const [title, ...lines] = words.split("\n");
    const strong = document.createElement("strong");
    strong.textContent = title;
    tip.replaceChildren(strong, ...lines.map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const left = Math.max(8, Math.min((box.left + box.right) / 2 - tip.offsetWidth / 2, room));
    const above = box.top - tip.offsetHeight - 12;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(above > 4 ? above : box.bottom + 12) + window.scrollY}px`;
  }

  // ---- one cut everywhere ----
  let linked = null;
  function link(number) {
    if (number === linked) return;
    document.querySelectorAll(".linked").forEach((item) => item.classList.remove("linked"));
    linked = number;
    if (number === null) return;
    document.querySelectorAll(`[data-cut="${number}"]`).forEach((item) => item.classList.add("linked"));
  }

  document.addEventListener("pointerover", (event) => {
    const holder = event.target.closest("tr[data-cut], li[data-cut]");
    if (holder) link(holder.dataset.cut);
    else if (!event.target.closest(".plot")) link(null);
  });

  // ---- reading a plot ----
  // A reader says what is at a point of the screen, where a key leads, and what a place says: {words, box, cut}.
  function attach(plot, reader) {
    let place = null;

    function go(next, { aloud = false } = {}) {
      place = next;
      if (reader.mark) reader.mark(place);
      if (place === null) {
        tip.hidden = true;
        link(null);
        return;
      }
      const { words, box, cut } = reader.describe(place);
      show(words, box);
      link(cut);
      if (aloud) spoken.textContent = words.replaceAll("\n", "; ");
    }

    const follow = (event) => go(reader.at(event.clientX, event.clientY));
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") go(null); });
    plot.addEventListener("blur", () => go(null));
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        go(null);
        return;
      }
      const next = reader.move(place, event.key);
      if (next === undefined) return;
      event.preventDefault();
      go(next, { aloud: true });
    });
  }

  // Points that say themselves what they are, in the order in which they are drawn.
  function pointReader(plot) {
    const visible = () => [...plot.querySelectorAll("[data-tip]")].filter((point) => !point.closest(".off"));
    return {
      at(x, y) {
        let nearest = null, least = REACH_PX;
        for (const point of visible()) {
          const box = point.getBoundingClientRect();
          const distance = Math.hypot((box.left + box.right) / 2 - x, (box.top + box.bottom) / 2 - y);
          if (distance < least) [nearest, least] = [point, distance];
        }
        return nearest;
      },
      move(point, key) {
        const points = visible();
        return points[step(points.indexOf(point), points.length, key)];
      },
      mark(point) {
        plot.querySelectorAll(".active").forEach((other) => other.classList.remove("active"));
        if (point) point.classList.add("active");
      },
      describe(point) {
        const holder = point.closest("[data-cut]");
        return { words: point.dataset.tip, box: point.getBoundingClientRect(), cut: holder ? holder.dataset.cut : null };
      },
    };
  }

  // Where a key leads among so many places in a row; undefined for other keys.
  function step(index, count, key) {
    const last = count - 1;
    const next = {
      ArrowRight: Math.min(index + 1, last), ArrowDown: Math.min(index + 1, last), Home: 0, End: last,
      ArrowLeft: index < 0 ? last : Math.max(index - 1, 0), ArrowUp: index < 0 ? last : Math.max(index - 1, 0),
    }[key];
    return count ? next : undefined;
  }

  document.querySelectorAll('[data-chart="points"]').forEach((plot) => attach(plot, pointReader(plot)));

  // ---- legends ----
  function setShown(entry, shown) {
    entry.setAttribute("aria-pressed", String(shown));
    const figure = entry.closest("[data-group]") || entry.closest("section");
    figure.querySelectorAll(`[data-series="${entry.dataset.toggles}"]`).forEach((item) => item.classList.toggle("off", !shown));
  }

  const isShown = (entry) => entry.getAttribute("aria-pressed") === "true";
  document.querySelectorAll("[data-toggles]").forEach((entry) => {
    entry.title = "Click to hide or show; double-click to show only this";
    entry.addEventListener("click", () => setShown(entry, !isShown(entry)));
    entry.addEventListener("dblclick", () => {
      const others = [...entry.closest(".legend").querySelectorAll("[data-toggles]")].filter((other) => other !== entry);
      const alone = isShown(entry) && others.every((other) => !isShown(other));
      others.forEach((other) => setShown(other, alone));
      setShown(entry, true);
    });
  });

  // ---- sets of classes ----
  const select = document.getElementById("split-group");
  if (select) {
    select.addEventListener("change", () => {
      document.querySelectorAll("[data-group]").forEach((item) => { item.hidden = item.dataset.group !== select.value; });
    });
  }

  // ---- numbers that came packed ----
  async function unpack(identity) {
    const packed = Uint8Array.from(atob(document.getElementById(identity).textContent), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(unpacked).text());
  }

  return { attach, step, setShown, isShown, unpack };
})();
