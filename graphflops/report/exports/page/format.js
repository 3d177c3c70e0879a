// Numbers and elements. Names of models go into the page as text, never as HTML.
const PREFIXES = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const grouped = number => number.toLocaleString("en-US");

function si(number) {
  let exponent = 0;
  while (Number(number) >= 999.5 * 1000 ** exponent && exponent < PREFIXES.length - 1) exponent += 1;
  if (!exponent) return String(number);
  const value = Number(number) / 1000 ** exponent;
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${PREFIXES[exponent]}`;
}

const share = (part, whole) => (whole ? Number((part * 10n ** 9n) / whole) / 1e9 : 0);

function percent(part, whole) {
  if (!part || !whole) return "0 %";
  const value = 100 * share(part, whole);
  return value >= 0.05 ? `${value.toFixed(1)} %` : "<0.1 %";
}

// An element with attributes and children; a child that is a string becomes text.
function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) created.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) created.setAttribute(name, value);
  }
  created.append(...children.filter(child => child !== null && child !== ""));
  return created;
}

const times = count => (count > 1 ? ` ×${grouped(count)}` : "");
const PHASE_NAMES = { dgrad: "–\u00a0activations", wgrad: "–\u00a0parameters" };
const phaseName = phase => PHASE_NAMES[phase] || phase;
