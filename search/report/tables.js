// Tables sort by their headings, filter by a text, and are saved as CSV or JSON.
function amount(text) {
  const found = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(found) ? null : found;
}

const texts = (row) => [...row.cells].map((cell) => cell.textContent.replace(/\s+/g, " ").trim());

function sortBy(table, heading, at) {
  const descending = heading.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.ariaSort = descending ? "descending" : "ascending";
  const keyed = [...table.tBodies[0].rows].map((row) => {
    const text = texts(row)[at];
    return [heading.classList.contains("number") ? amount(text) : text, row];
  });
  const known = keyed.filter(([key]) => key !== null && key !== "-");
  const unknown = keyed.filter((one) => !known.includes(one)); // always last
  const turn = descending ? -1 : 1;
  known.sort(([one], [other]) => turn * (typeof one === "number" ? one - other : one.localeCompare(other)));
  table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
}

// The rows in view: one text per column, with the errors of a column in one of their own.
function records(table) {
  const titles = texts(table.tHead.rows[0]);
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden).map(texts);
  const spreads = titles.map((_, at) => rows.some((row) => row[at].includes(" ± ")));
  return rows.map((row) => {
    const found = new Map();
    row.forEach((text, at) => {
      const [value, error = ""] = spreads[at] ? text.split(" ± ") : [text];
      found.set(titles[at], value);
      if (spreads[at]) found.set(`${titles[at]} error`, error);
    });
    return found;
  });
}

const csvCell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function csv(table) {
  const rows = records(table);
  const titles = rows.length ? [...rows[0].keys()] : texts(table.tHead.rows[0]);
  return [titles, ...rows.map((row) => [...row.values()])].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

const json = (table) => JSON.stringify(records(table).map((row) => Object.fromEntries(row)), null, 1);

function save(text, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function element(tag, text, given) {
  return Object.assign(document.createElement(tag), { textContent: text }, given);
}

for (const region of document.querySelectorAll(".scroll")) {
  const table = region.querySelector("table");
  const caption = region.getAttribute("aria-label");
  const name = caption.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  [...table.tHead.rows[0].cells].forEach((heading, at) => {
    const button = element("button", heading.textContent, { type: "button" });
    button.addEventListener("click", () => sortBy(table, heading, at));
    heading.replaceChildren(button);
  });
  const filter = element("input", "", { type: "search", placeholder: "Filter", ariaLabel: `Filter: ${caption}` });
  const count = element("span", "", { className: "note", ariaLive: "polite" });
  filter.addEventListener("input", () => {
    const sought = filter.value.trim().toLowerCase();
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) row.hidden = !texts(row).join(" ").toLowerCase().includes(sought);
    count.textContent = sought ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
  const csvButton = element("button", "CSV", { type: "button", ariaLabel: `Save as CSV: ${caption}` });
  const jsonButton = element("button", "JSON", { type: "button", ariaLabel: `Save as JSON: ${caption}` });
  csvButton.addEventListener("click", () => save(csv(table), "text/csv", `${name}.csv`));
  jsonButton.addEventListener("click", () => save(json(table), "application/json", `${name}.json`));
  const bar = element("div", "", { className: "bar" });
  bar.append(filter, csvButton, jsonButton, count);
  region.before(bar);
}
