// Sorts the columns of the table of measures by the row that is clicked, and the rows of other tables by the column.
const number = (cell) => {
  const shown = cell.textContent.replace(/,/g, "").match(/-?[\d.]+/);
  const unit = { KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 }[(cell.textContent.match(/[KMGT]B/) || [])[0]] || 1;
  return shown ? Number(shown[0]) * unit : Infinity;
};
const measures = document.querySelector(".measures");
if (measures) {
  for (const head of measures.querySelectorAll("tbody tr:not(.group) th")) {
    head.title = "Sort the strategies by this";
    head.style.cursor = "pointer";
    head.addEventListener("click", () => {
      const cells = [...head.parentElement.querySelectorAll("td")];
      const order = cells.map((_, n) => n).sort((a, b) => number(cells[a]) - number(cells[b]));
      for (const row of measures.querySelectorAll("tr:not(.group)")) {
        const old = [...row.children].slice(1);
        order.forEach((n) => row.append(old[n]));
      }
    });
  }
}
for (const table of document.querySelectorAll(".plain:not(.slopes)")) {
  const heads = table.querySelectorAll("thead tr:last-child th");
  heads.forEach((head, column) => {
    head.style.cursor = "pointer";
    head.addEventListener("click", () => {
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => number(a.cells[column]) - number(b.cells[column]));
      body.append(...rows);
    });
  });
}
// Shows the words of a picture's bar while the pointer is on it.
for (const svg of document.querySelectorAll("figure svg")) {
  const words = document.createElementNS(svg.namespaceURI, "title");
  words.textContent = svg.getAttribute("aria-label");
  svg.prepend(words);
}
