// The plot of the front: fills in the values of its axes, and draws it over those that are chosen.
let tradeOff, places; // read before the first figure is drawn
const choices = ["axis-x", "axis-y"].map((id) => document.getElementById(id)).filter(Boolean);
let ring = () => []; // the mark of a chosen student, from the budget control

prepare = async () => {
  tradeOff = JSON.parse(await unpacked(document.getElementById("trade-off")));
  places = tradeOff.first;
};

// Called by `drawn` for every figure: each value is in the page once, for all pairs of axes.
fill = (figure, name) => {
  if (name !== "pair-0") return;
  const [x, y] = places.map((at) => tradeOff.axes[at]);
  const pick = (values, rows) => rows.map((row) => (row === null ? null : values[row]));
  for (const trace of figure.data) {
    const rows = trace.meta.rows;
    Object.assign(trace, { x: pick(x.values, rows), y: pick(y.values, rows) });
    if (trace.error_x) trace.error_x.array = pick(x.errors, rows);
    if (trace.error_y) trace.error_y.array = pick(y.errors, rows);
    if (trace.hoverinfo !== "skip") trace.customdata = pick(tradeOff.hovers, rows);
  }
  figure.layout.uirevision = places.join(); // another winner keeps the zoom
  figure.data.push(...ring(figure, x, y));
};

function overAxes() {
  const before = places;
  places = choices.map((choice) => Number(choice.value));
  if (places[0] === places[1]) {
    places = [before[1], before[0]]; // an axis that is taken changes places
    choices.forEach((choice, at) => { choice.value = places[at]; });
  }
  const plot = document.getElementById("pair-0");
  tradeOff.plots[before.join(" ")] = {
    title: document.getElementById("trade-off-title").textContent,
    says: plot.getAttribute("aria-label"),
    figure: JSON.parse(texts.get("pair-0")),
  };
  const next = tradeOff.plots[places.join(" ")];
  texts.set("pair-0", JSON.stringify(next.figure));
  document.getElementById("trade-off-title").textContent = next.title;
  plot.setAttribute("aria-label", next.says);
  draw("[data-plot=pair-0]");
}
choices.forEach((choice) => choice.addEventListener("change", () => loaded.then(overAxes)));
