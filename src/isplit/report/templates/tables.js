// Sorts the tables and filters the cuts. Cells carry what they sort by in data-value; empty ones come last.
"use strict";
document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value;

  function compare(a, b, numeric) {
    return numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  }

  function sortBy(column) {
    const header = headers[column];
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const numeric = header.classList.contains("number");
    const rows = [...body.rows].sort((first, second) => {
      const a = key(first, column);
      const b = key(second, column);
      if (a === "" || b === "") return (a === "") - (b === "");
      return direction * compare(a, b, numeric);
    });
    body.append(...rows);
    headers.forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  }

  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => sortBy(column));
  });
});

(() => {
  const table = document.getElementById("cuts-table");
  const filter = document.getElementById("candidates-only");
  const applyFilter = () => table.classList.toggle("candidates-only", filter.checked);
  filter.addEventListener("change", applyFilter);
  applyFilter(); // a browser may restore the tick when it reloads the page
})();
