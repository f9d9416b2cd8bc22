// Fills the gallery from the page's data, and filters it. Every text becomes a text node.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data-gallery").textContent);
  const list = document.getElementById("gallery-rows");
  const count = document.getElementById("gallery-count");
  const controls = document.getElementById("gallery-controls");
  const reset = document.getElementById("gallery-reset");
  const select = {};
  for (const one of controls.querySelectorAll("select")) select[one.id.slice(8)] = one;
  const filters = Object.values(select).filter((one) => one !== select.picture);
  const own = data.runs[0];
  const SHOWN = 3; // further runs on a card
  const SVG = "http://www.w3.org/2000/svg";

  function made(name, attributes, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function drawn(name, attributes, ...children) {
    return fill(document.createElementNS(SVG, name), attributes, children);
  }

  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children); // a string becomes a text node
    return element;
  }

  // The picture with its boxes. Widths of lines and letters fit the size at which it is shown.
  function picture(row) {
    if (row.picture === undefined) {
      return made("div", { class: "picture none" }, made("p", {}, "No picture: " + row.why));
    }
    const [width, height] = row.size;
    const image = made("img", {
      src: data.pictures[row.picture], alt: "Picture of row " + row.name, decoding: "async",
      width, height,
    });
    const unit = Math.max(width, height) / 256;
    const taken = [];
    const boxes = row.boxes.flatMap((one) => box(one, unit, width, height, taken));
    const over = drawn("svg", {
      viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", preserveAspectRatio: "none",
    }, ...boxes);
    const frame = made("div", { class: "frame" }, image, over);
    frame.style.aspectRatio = `${width} / ${height}`; // as wide as the card, but no higher than 18rem
    frame.style.maxWidth = `${(18 * width) / height}rem`;
    return made("div", { class: "picture" }, frame);
  }

  // The name of a box stands above it, or below where there is no room or another name (in `taken`).
  function box([part, name, left, top, right, bottom], unit, width, height, taken) {
    const place = {
      x: Math.min(left, right), y: Math.min(top, bottom),
      width: Math.abs(right - left), height: Math.abs(bottom - top),
    };
    const size = 11 * unit;
    const words = name ? part + ": " + name : part;
    const fromEnd = place.x > width / 2;
    const length = words.length * size * 0.62; // about
    const wanted = fromEnd ? place.x + place.width - length : place.x;
    const start = Math.max(Math.min(wanted, width - unit - length), unit);
    const from = fromEnd ? start + length : start;
    const overlaps = (y) => taken.some((one) => Math.abs(one.y - y) < size * 1.1
      && start < one.end && start + length > one.start);
    const above = place.y - 4 * unit;
    const below = Math.min(place.y + place.height + size, height - 2 * unit);
    const y = place.y > size * 1.4 && !overlaps(above) ? above : below;
    taken.push({ y, start, end: start + length });
    const text = drawn("text", {
      class: part, "font-size": size, "stroke-width": 3 * unit,
      x: from, y,
      "text-anchor": fromEnd ? "end" : "start",
    }, words);
    const rim = drawn("rect", { ...place, class: "rim", "stroke-width": 4 * unit });
    const line = drawn("rect", {
      ...place, class: part, "stroke-width": 2 * unit,
      "stroke-dasharray": part === "reference" ? `${6 * unit} ${3 * unit}` : "none",
    });
    return [rim, line, text];
  }

  // A bar for each layer: full where it is right, short where it is wrong.
  function strip(row, run, of) {
    const n = run.layers.length;
    const bars = row.layers.map((predicted, i) => {
      const right = predicted === row.true;
      return drawn("rect", {
        x: i * 10 + 1, width: 8, y: right ? 0 : 15, height: right ? 20 : 5,
        class: right ? "right" : "wrong",
      }, drawn("title", {}, `layer ${run.layers[i]}: ${run.classes[predicted]}, ${word(right)}`));
    });
    const at = run.layers.indexOf(run.selected) * 10;
    if (at >= 0) bars.push(drawn("path", { class: "peak", d: `M${at + 1} 28l4-5l4 5z` }));
    return drawn("svg", {
      class: "strip", viewBox: `0 0 ${n * 10} 28`, preserveAspectRatio: "none", role: "img",
      "aria-label": of + spans(row, run).join("; "),
    }, ...bars);
  }

  // "layers 0–3 above (wrong)", one for each change of the prediction.
  function spans(row, run) {
    const found = [];
    let start = 0;
    for (let i = 1; i <= row.layers.length; i++) {
      if (i < row.layers.length && row.layers[i] === row.layers[start]) continue;
      const [first, last] = [run.layers[start], run.layers[i - 1]];
      const which = first === last ? `layer ${first}` : `layers ${first}–${last}`;
      found.push(`${which}: ${run.classes[row.layers[start]]}, ${word(row.layers[start] === row.true)}`);
      start = i;
    }
    return found;
  }

  function word(right) {
    return right ? "right" : "wrong";
  }

  function verdict(who, what, right, more) {
    return made("li", { class: word(right) },
      made("span", { class: "mark", "aria-hidden": "true" }, right ? "✓" : "✗"),
      made("span", {}, who + " ", made("b", {}, what), `, ${word(right)}${more}`));
  }

  function prompt(row) {
    const text = row.prompt ?? "";
    if (text.length <= 160) return made("p", { class: "prompt" }, text);
    const start = text.slice(0, 140).replace(/\s+\S*$/, "");
    return made("details", { class: "prompt" },
      made("summary", {}, start + " …"), made("p", {}, text));
  }

  function verdictsOf(row, run) {
    const verdicts = [verdict("Probe at the peak:", row.peak, row.knows, "")];
    if (row.answer !== undefined) {
      const margin = row.margin === null ? "" : ` (margin ${row.margin.toFixed(2)})`;
      verdicts.push(verdict("The model says:", row.answer, row.says, margin));
    } else if (run.answers) {
      verdicts.push(made("li", {}, "The model's answer does not count: the label is no option."));
    }
    return made("ul", { class: "verdicts" }, ...verdicts);
  }

  // The same row in another run: its label, what probe and model say, and its strip.
  function furtherRow(row, run) {
    const name = made("p", { class: "of-further" }, made("b", {}, run.name),
      row ? " label " + row.label : " lacks this row");
    if (!row) return made("div", { class: "further" }, name);
    return made("div", { class: "further" }, name, verdictsOf(row, run),
      strip(row, run, `Predictions by layer, ${run.name}: `));
  }

  // The first ones are shown, and the others under a line that opens.
  function furtherRows(row) {
    const blocks = row.further.map((one, k) => furtherRow(one, data.runs[k + 1]));
    if (blocks.length <= SHOWN) return blocks;
    const rest = blocks.splice(SHOWN);
    return [...blocks, made("details", {}, made("summary", {}, `${rest.length} more runs`), ...rest)];
  }

  // The row in the run whose picture is chosen.
  function pictured(row) {
    const k = Number(select.picture?.value ?? 0);
    return k ? { name: row.name, ...(row.further[k - 1] ?? { why: "this run lacks the row" }) } : row;
  }

  function card(row, number) {
    const named = (names, values) => values.map((value, i) => value && `${names[i]}: ${value}`);
    const about = [...named(data.strata, row.strata), ...named(data.fields, row.fields)].filter(Boolean);
    const heading = made("h3", { id: "gallery-row-" + number }, row.label,
      made("span", { class: "id" }, row.name));
    const more = made("details", {}, made("summary", {}, "By layer and field"),
      made("ul", {}, ...[...spans(row, own), ...about].map((one) => made("li", {}, one))));
    const link = address(row.id);
    return made("li", { class: "card", tabindex: "-1", "aria-labelledby": "gallery-row-" + number },
      picture(row), heading, verdictsOf(row, own), strip(row, own, "Predictions by layer: "),
      prompt(row), ...furtherRows(row), more,
      link ? made("a", { href: link, class: "row-link" }, "Link to this row") : "");
  }

  // Half of a surrogate pair is in no address; such a row has no link.
  function address(id) {
    try {
      return "#row=" + encodeURIComponent(id);
    } catch {
      return null;
    }
  }

  const kinds = {
    "": () => true,
    wrong: (row) => !row.knows,
    right: (row) => row.knows,
    knows: (row) => row.says === false && row.knows,
    says: (row) => row.says === true && !row.knows,
    neither: (row) => row.says === false && !row.knows,
  };

  // The value of a list is "", or the place of the field, "=" and the name of the stratum.
  function isOfStratum(row, value) {
    const at = value.indexOf("=");
    return at < 0 || (row.strata[value.slice(0, at)] ?? "") === value.slice(at + 1);
  }

  function isShown(row) {
    const field = select.field?.value ?? "";
    return kinds[select.kind.value](row)
      && (!select.label.value || select.label.value.slice(1) === row.label)
      && isOfStratum(row, select.stratum?.value ?? "")
      && (!field || !select.value.value || select.value.value.slice(1) === (row.fields[field] ?? ""));
  }

  function apply() {
    let n = 0;
    data.rows.forEach((row, i) => {
      const shown = isShown(row);
      cards[i].hidden = !shown;
      n += shown;
    });
    const total = data.rows.length;
    count.textContent = n === total ? `${total} rows are shown.` : `${n} of ${total} rows are shown.`;
    reset.disabled = filters.every((one) => !one.value);
  }

  // The values of the chosen field, with the number of rows that have each.
  function listValues() {
    const field = select.field.value;
    const numbers = new Map();
    for (const row of field ? data.rows : []) {
      const value = row.fields[field] ?? "";
      numbers.set(value, (numbers.get(value) ?? 0) + 1);
    }
    const sorted = [...numbers].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
    select.value.replaceChildren(made("option", { value: "" }, "all"),
      ...sorted.map(([value, n]) => made("option", { value: "=" + value }, `${value || "none"} (${n})`)));
    select.value.disabled = !field;
  }

  function showAll() {
    for (const one of filters) one.value = "";
    if (select.field) listValues();
    apply();
  }

  // Go to the row that the address names; filters that hide it are undone.
  function followAddress() {
    for (const one of cards) one.classList.remove("target");
    if (!location.hash.startsWith("#row=")) return;
    let id = location.hash.slice(5);
    try {
      id = decodeURIComponent(id);
    } catch { /* not written by this page: taken as it is */ }
    const i = data.rows.findIndex((row) => row.id === id);
    if (i < 0) {
      count.textContent = "The row of this address is not in the gallery: " + id;
      count.scrollIntoView();
      return;
    }
    if (cards[i].hidden) showAll();
    cards[i].classList.add("target");
    for (const one of cards[i].querySelectorAll("details")) one.open = true;
    cards[i].focus({ preventScroll: true });
    cards[i].scrollIntoView({ block: "center", behavior: "instant" }); // not smoothly: the page is long
  }

  const cards = data.rows.map(card);
  list.append(...cards);
  // Cards show picture and prompt of the run that is chosen.
  function showPictures() {
    data.rows.forEach((row, i) => {
      const shown = pictured(row);
      cards[i].querySelector(".picture").replaceWith(picture(shown));
      cards[i].querySelector(".prompt")?.replaceWith(prompt(shown));
    });
  }

  controls.addEventListener("change", (event) => {
    if (event.target === select.picture) showPictures();
    if (event.target === select.field) listValues();
    apply();
  });
  reset.addEventListener("click", () => {
    showAll();
    select.kind.focus();
  });
  window.addEventListener("hashchange", followAddress);
  apply();
  window.page.drawn.then(followAddress); // charts above change the place of the row
})();
