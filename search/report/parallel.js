// Keeps the students in ranges of the parallel coordinates: dragged over on an axis, or typed.
const parallel = document.getElementById("parallel");
const brush = document.getElementById("brush");
const { trials, values, titles, on_front: onFront } = JSON.parse(document.getElementById("compared-data").textContent);
const ends = titles.map((_, at) => [Math.min(...values.map((own) => own[at])), Math.max(...values.map((own) => own[at]))]);
const details = document.getElementById("compared-table");
const rows = new Map([...details.querySelectorAll("tbody tr")].map((row) => [row.cells[0].textContent.trim(), row]));
const [axis, from, to] = brush.querySelectorAll("select, input");
const kept = new Map(); // by axis, the range that students are kept in

const chosen = (student) => [...kept].every(([at, [low, high]]) => student[at] >= low && student[at] <= high);
const place = (value, at) => (ends[at][1] > ends[at][0] ? (value - ends[at][0]) / (ends[at][1] - ends[at][0]) : 0.5);
const valueAt = (share, at) => ends[at][0] + share * (ends[at][1] - ends[at][0]);
const shortened = (value) => String(Number(value.toPrecision(4)));

function rangeText([at, [low, high]]) {
  const parts = [Number.isFinite(low) ? `at least ${shortened(low)}` : "", Number.isFinite(high) ? `at most ${shortened(high)}` : ""];
  return `${titles[at]} ${parts.filter(Boolean).join(" and ")}`;
}

function announce() {
  const found = trials.filter((_, at) => chosen(values[at])).map((trial) => `t${trial}`);
  const names = found.length && found.length <= 20 ? ` (${found.join(" ")})` : "";
  document.getElementById("brushed").textContent = kept.size
    ? `${found.length} of ${trials.length} students kept${names}: ${[...kept].map(rangeText).join("; ")}.`
    : "";
}

// Hides the rows that are not kept, among those that the filter of the table leaves.
function filterRows() {
  const sought = details.querySelector("input[type=search]")?.value.trim().toLowerCase() ?? "";
  trials.forEach((trial, at) => {
    const row = rows.get(String(trial));
    row.hidden = !chosen(values[at]) || !row.textContent.toLowerCase().includes(sought);
  });
}

// The coordinates of one trace: each line ends with a gap.
function lines(belongs) {
  const found = { x: [], y: [], text: [] };
  values.forEach((own, student) => {
    if (!belongs(student)) return;
    own.forEach((value, at) => {
      found.x.push(at);
      found.y.push(place(value, at));
      found.text.push(`t${trials[student]}, ${titles[at].replaceAll("<", "&lt;")}: ${shortened(value)}`);
    });
    for (const part of Object.values(found)) part.push(null);
  });
  return found;
}

function redraw() {
  if (!parallel.data) return; // not drawn yet
  const is = values.map(chosen);
  const traces = [(at) => !is[at], (at) => is[at] && !onFront[at], (at) => is[at] && onFront[at]].map(lines);
  const change = Object.fromEntries(["x", "y", "text"].map((part) => [part, traces.map((one) => one[part])]));
  const shapes = [...kept].map(([at, [low, high]]) => ({
    type: "rect",
    x0: at - 0.06,
    x1: at + 0.06,
    y0: Math.max(place(low, at), -0.03),
    y1: Math.min(place(high, at), 1.03),
    fillcolor: parallel.layout.font.color,
    opacity: 0.3,
    line: { width: 0 },
  }));
  Plotly.update(parallel, { ...change, selectedpoints: null }, { shapes, selections: [] });
}

function showFields() {
  const range = kept.get(Number(axis.value)) ?? [-Infinity, Infinity];
  [from.value, to.value] = range.map((end) => (Number.isFinite(end) ? shortened(end) : ""));
}

function update() {
  filterRows();
  announce();
  redraw();
}

function typed() {
  const range = [from.value === "" ? -Infinity : Number(from.value), to.value === "" ? Infinity : Number(to.value)];
  if (range.some(Number.isFinite)) kept.set(Number(axis.value), range);
  else kept.delete(Number(axis.value));
  update();
}

// A box keeps its range on every axis in it, or else on the nearest one.
function dragged(event) {
  if (!event?.range) return;
  const [left, right] = [...event.range.x].sort((one, other) => one - other);
  const span = [...event.range.y].sort((one, other) => one - other);
  const inside = titles.map((_, at) => at).filter((at) => at >= left && at <= right);
  const nearest = Math.min(Math.max(Math.round((left + right) / 2), 0), titles.length - 1);
  for (const at of inside.length ? inside : [nearest]) {
    kept.set(at, span.map((share) => valueAt(share, at)));
    axis.value = String(at);
  }
  showFields();
  update();
}

function keepAll() {
  kept.clear();
  showFields();
  update();
}

parallel.addEventListener("drawn", () => {
  if (!parallel.dataset.brushed) {
    parallel.on("plotly_selected", dragged);
    parallel.on("plotly_deselect", keepAll); // a double click
    parallel.dataset.brushed = "yes";
  }
  if (kept.size) redraw(); // drawn again in other colours
});
from.addEventListener("input", typed);
to.addEventListener("input", typed);
axis.addEventListener("input", showFields);
brush.addEventListener("submit", (event) => event.preventDefault());
brush.addEventListener("reset", () => setTimeout(keepAll)); // after the fields were emptied
details.addEventListener("input", filterRows); // after the listener of the filter in it
