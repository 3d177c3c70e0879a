// The state of the page, and its controls.
const state = { zoomed: model, selected: model, phase: "total", sort: null, open: new Set(), free: false, filter: "", operator: null };
state.open = unfoldFirst();

function select(row) {
  state.selected = row;
  for (const around of row.ancestors) state.open.add(around.path);
  document.getElementById("detail").classList.remove("closed");
  draw();
}

// Zoom to a row; a row without children is selected only.
function zoom(row, selected) {
  if (row.children.length || row === model) state.zoomed = row;
  state.selected = selected;
  for (const around of selected.ancestors) state.open.add(around.path);
  document.getElementById("detail").classList.remove("closed");
  draw();
}

function draw() {
  drawIcicle();
  drawTable();
  drawDetail();
}

function choosePhase(phase) {
  state.phase = phase;
  for (const button of document.querySelectorAll("#phases button")) button.setAttribute("aria-pressed", button.dataset.phase === phase);
  draw();
}

function startTheme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", isDark());
  try { // a page in a sandbox has no storage
    const kept = localStorage.getItem("graphflops-theme");
    if (kept) document.documentElement.dataset.theme = kept;
  } catch {}
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("graphflops-theme", theme); } catch {}
    show();
  });
  system.addEventListener("change", show);
  show();
}

function start() {
  startTheme();
  document.getElementById("phases").append(...data.choices.map(phase => element("button",
    { type: "button", "data-phase": phase, "aria-pressed": phase === state.phase, onclick: () => choosePhase(phase) }, phase)));
  document.getElementById("icicle").addEventListener("keydown", keyInIcicle);
  document.getElementById("table").addEventListener("keydown", keyInTable);
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape" || event.target.id === "filter") return;
    const row = state.zoomed.parent || model;
    zoom(row, state.zoomed);
  });
  document.getElementById("filter").addEventListener("input", event => { state.filter = event.target.value.trim(); drawTable(); });
  document.getElementById("free").addEventListener("change", event => { state.free = event.target.checked; drawTable(); });
  document.getElementById("unfold").addEventListener("click", () => {
    const openAll = row => { if (row.children.length) { state.open.add(row.path); row.children.forEach(openAll); } };
    openAll(model);
    drawTable();
  });
  document.getElementById("fold").addEventListener("click", () => { state.open = new Set([model.path]); drawTable(); });
  addEventListener("resize", drawIcicle);
  draw();
  document.getElementById("detail").classList.add("closed"); // on a narrow screen it covers a part of the page
}

start();
