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

// What a tenth more of each budget buys; without one, of what the winner costs.
function more(budgets) {
  const none = budgets.every((bound) => bound === null);
  const own = study.students[winner].values;
  return budgets.flatMap((given, at) => {
    const { sign, title } = study.objectives[at];
    const bound = none && at < study.own && sign === 1 ? own[at] : given;
    if (bound === null) return [];
    const looser = bound + sign * 0.1 * Math.abs(bound);
    const next = pick(budgets.map((other, place) => (place === at ? looser : other)));
    const said = `${title} ${shown(looser)}, 10% more room, buys`;
    if (next === winner || next < 0) return [`${said} no other student.`];
    const gained = ranked(budgets.map((other, place) => (place === at ? looser : other)))[0];
    const values = [next, winner].map((one) => shown(study.students[one].values[gained]));
    return [`${said} ${named(next)}: ${study.objectives[gained].title} ${values[0]} instead of ${values[1]}.`];
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
    card.classList.toggle("chosen", !card.hidden);
    if (!card.hidden) card.querySelector(".more").textContent = more(budgets).join(" ");
  }
  const best = study.objectives[ranked(budgets)[0]];
  const why = budgets.every((bound) => bound === null)
    ? "the knee of the front"
    : `the ${best.sign === 1 ? "least" : "best"} ${best.title} within the budget`;
  document.getElementById("chosen").textContent =
    winner < 0 ? "No student on the front is within that budget." : `t${study.students[winner].trial}: ${why}.`;
  draw("[data-plot=pair-0]");
}

// Called for the plot of the front, with the values on its axes.
ring = (figure, x, y) => {
  if (winner < 0) return [];
  const row = study.students[winner].row;
  const marker = { ...study.ring, color: figure.layout.font.color };
  const at = { x: [x.values[row]], y: [y.values[row]] };
  return [{ ...at, mode: "markers", marker, name: "Chosen", legendrank: 1, hoverinfo: "skip" }];
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
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
update();
