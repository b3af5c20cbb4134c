// Chooses a student within budgets by the rule of `protege.search.analysis.choosing.pick`.
const study = JSON.parse(document.getElementById("budget-data").textContent);
const form = document.getElementById("budgets");
const fields = [...form.querySelectorAll("fieldset")].map((set) => {
  const [slider, number] = set.querySelectorAll("input");
  return { slider, number, loosest: Number(set.dataset.loosest) };
});
let winner = study.knee;

function meets(student, budgets) {
  return budgets.every((bound, at) => {
    const value = student.values[at];
    const sign = study.objectives[at].sign;
    return bound === null || (value !== null && sign * value <= sign * bound);
  });
}

// As `Noise.dominated`: layer by layer, those that nothing left dominates stay.
function undominated(among) {
  let left = among;
  const stay = [];
  while (left.length) {
    const free = left.filter((one) => !study.students[one].above.some((other) => left.includes(other)));
    const next = free.length ? free : left; // in a cycle none is better than the rest
    stay.push(...next);
    left = left.filter((one) => !next.includes(one));
    left = left.filter((one) => !study.students[one].above.some((other) => stay.includes(other)));
  }
  return among.filter((one) => stay.includes(one));
}

// The objectives by which students are compared, those without a budget first.
function ranked(budgets) {
  const given = study.objectives.flatMap((one, at) => (budgets[at] === null ? [] : [one.stands_for]));
  const floors = !given.some((at) => study.objectives[at].sign === 1);
  const key = (at) => 2 * given.includes(at) + ((study.objectives[at].sign === 1) !== floors);
  return [...Array(study.own).keys()].sort((one, other) => key(one) - key(other));
}

// The place of the best student within the budgets, one bound or null per objective; -1 if none.
function pick(budgets) {
  if (budgets.every((bound) => bound === null)) return study.knee;
  const meeting = (among) => among.filter((one) => meets(study.students[one], budgets));
  let within = meeting(study.choices);
  if (!within.length) within = undominated(meeting([...study.students.keys()]));
  const order = ranked(budgets);
  const better = (one, other) => {
    for (const at of order) {
      const change = study.objectives[at].sign * (study.students[one].values[at] - study.students[other].values[at]);
      if (change !== 0) return change < 0;
    }
    return false;
  };
  return within.reduce((best, one) => (best < 0 || better(one, best) ? one : best), -1);
}

const shown = (value) => String(Number(value.toPrecision(4)));
const named = (one) => `t${study.students[one].trial} (${study.students[one].label})`;

function given() {
  return fields.map(({ number }) => (number.value === "" ? null : Number(number.value)));
}

// What a tenth more of each budget buys.
function more(budgets) {
  return budgets.flatMap((bound, at) => {
    if (bound === null) return [];
    const looser = bound + study.objectives[at].sign * 0.1 * Math.abs(bound);
    const next = pick(budgets.map((other, place) => (place === at ? looser : other)));
    const title = study.objectives[at].title;
    const said = `With 10% more room in ${title} (${shown(looser)})`;
    if (next === winner) return [`${said} it stays the same.`];
    const gained = ranked(budgets)[0];
    return [`${said}: ${named(next)}, ${study.objectives[gained].title} ${shown(study.students[next].values[gained])}.`];
  });
}

function update() {
  const budgets = given();
  winner = pick(budgets);
  fields.forEach(({ slider, number }) => {
    slider.setAttribute("aria-valuetext", number.value === "" ? "no budget" : number.value);
  });
  for (const card of document.querySelectorAll(".card")) {
    card.hidden = winner < 0 || Number(card.dataset.trial) !== study.students[winner].trial;
  }
  const best = study.objectives[ranked(budgets)[0]];
  const why = budgets.every((bound) => bound === null)
    ? "the knee of the front"
    : `the ${best.sign === 1 ? "least" : "best"} ${best.title} within the budget`;
  document.getElementById("chosen").textContent =
    winner < 0 ? "No student on the front is within that budget." : `${named(winner)}: ${why}.`;
  document.getElementById("more").textContent = winner < 0 ? "" : more(budgets).join(" ");
  draw("[data-plot^=pair-]");
}

// Called by `drawn` for every figure: rings the chosen student in plots of objectives.
mark = (figure) => {
  const axes = figure.layout.meta?.axes;
  if (!axes || winner < 0) return;
  const student = study.students[winner];
  const [x, y] = axes.map((at) => (at < 0 ? student.trial : student.values[at]));
  const marker = { size: 22, symbol: "circle-open", color: figure.layout.font.color, line: { width: 3 } };
  figure.data.push({ x: [x], y: [y], mode: "markers", marker, name: "Chosen", hoverinfo: "skip" });
};

fields.forEach(({ slider, number, loosest }, at) => {
  slider.addEventListener("input", () => {
    const value = Number(slider.value);
    const unit = 10 ** (3 - Math.floor(Math.log10(Math.abs(value) || 1)));
    const rounded = (study.objectives[at].sign === 1 ? Math.ceil : Math.floor)(value * unit) / unit;
    number.value = value === loosest ? "" : String(rounded);
    update();
  });
  number.addEventListener("input", () => {
    slider.value = number.value === "" ? loosest : number.value;
    update();
  });
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(update)); // after the fields were emptied

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const line = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(line.textContent);
    } catch {
      getSelection().selectAllChildren(line); // a page without the permission
      document.execCommand("copy");
    }
    button.textContent = "Copied";
  });
}
update();
