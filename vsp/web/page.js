// Draws the charts of the page and binds its controls to them. All drawing is vega's.
"use strict";
(function () {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const views = {};

  // Colours are variables of the style sheet, so that a theme needs no new drawing.
  const text = { labelColor: "var(--muted)", titleColor: "var(--muted)" };
  const config = {
    background: null,
    aria: false, // the place of a chart has a description, and its table all figures
    font: getComputedStyle(document.body).fontFamily, // vega measures texts with it
    view: { stroke: null },
    axis: {
      ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
      gridColor: "var(--line)", domainColor: "var(--line)", tickColor: "var(--line)",
    },
    legend: { ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
    header: { ...text, labelFontSize: 12 },
    text: { color: "var(--ink)", fontSize: 12 },
    title: { color: "var(--ink)", fontSize: 13, anchor: "start" },
  };

  function controlsOf(chart) {
    return [...document.querySelectorAll("[data-parameter]")].filter(
      (one) => one.dataset.chart === chart,
    );
  }

  // What the controls of a parameter say: the value of a list, or the values of checked boxes.
  function chosen(chart, parameter) {
    const controls = controlsOf(chart).filter((one) => one.dataset.parameter === parameter);
    if (controls[0].tagName === "SELECT") return controls[0].value;
    return controls.filter((one) => one.checked).map((one) => one.value);
  }

  function apply(chart) {
    const view = views[chart];
    if (!view) return Promise.resolve();
    const parameters = new Set(controlsOf(chart).map((one) => one.dataset.parameter));
    for (const one of parameters) view.signal(one, chosen(chart, one));
    return view.runAsync();
  }

  // The rows of a chart's data, which stand in the page by columns.
  function unpacked(spec) {
    const packed = spec.data?.values;
    if (!packed?.columns) return spec;
    const columns = Object.entries(packed.columns).map(([name, one]) =>
      [name, Array.isArray(one) ? one : one.at.map((at) => one.of[at])]);
    const row = (_, i) => Object.fromEntries(columns.map(([name, column]) => [name, column[i]]));
    return { ...spec, data: { ...spec.data, values: Array.from({ length: packed.rows }, row) } };
  }

  async function draw(chart) {
    const place = document.getElementById("chart-" + chart);
    const made = await vegaEmbed(place, unpacked(specs[chart]), {
      mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config,
      ast: true, expr: vega.expressionInterpreter, // no code is made from text
      tooltip: { disableDefaultStyle: true, theme: "page" },
    });
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // the place has the words
    place.classList.add("drawn");
    views[chart] = made.view;
    await apply(chart);
  }

  async function drawAll() {
    for (const chart of Object.keys(specs)) await draw(chart);
    root.dataset.drawn = Object.keys(views).length;
  }

  document.addEventListener("change", (event) => {
    const control = event.target;
    if (control.dataset.parameter) apply(control.dataset.chart);
    if (control.name === "theme") root.dataset.theme = control.value;
  });

  // A table that is closed on the screen is open on paper.
  const closed = [];
  window.addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) {
      closed.push(one);
      one.open = true;
    }
  });
  window.addEventListener("afterprint", () => {
    for (const one of closed.splice(0)) one.open = false;
  });

  root.classList.remove("no-script");
  const theme = document.querySelector("input[name=theme]:checked");
  if (theme) root.dataset.theme = theme.value;
  // For the scripts of sections: views by chart, and when all are drawn.
  window.page = { views, apply, drawn: drawAll() };
})();
