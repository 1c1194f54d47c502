// Draws the charts, follows the colour scheme, and adds copy buttons. Without it the page still
// holds everything: each chart has a table beside it, and commands can be selected.
"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();
  const config = { displayModeBar: false, responsive: true, doubleClick: false };

  // Colours come from style.css, so that text and charts cannot disagree.
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), muted: of("--muted"), line: of("--line"), paper: of("--raised") };
  }

  function themed(layout) {
    const { ink, muted, line, paper } = colours();
    const axis = { gridcolor: line, zerolinecolor: muted, linecolor: line };
    return {
      ...layout,
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
      hoverlabel: { bgcolor: paper, bordercolor: muted, font: { color: ink } },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    };
  }

  function withErrorBars(traces) {
    const { ink } = colours();
    return traces.map((trace) =>
      trace.error_x ? { ...trace, error_x: { ...trace.error_x, color: ink } } : trace);
  }

  function draw(plot) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    drawn.add(plot);
    return Plotly.react(plot, withErrorBars(data), themed(layout), config);
  }

  const drawOnce = (plot) => drawn.has(plot) || draw(plot);
  const plots = [...document.querySelectorAll(".plot")];
  if (window.Plotly) {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          watcher.unobserve(entry.target);
          drawOnce(entry.target);
        }
      }
    }, { rootMargin: "800px" });
    plots.forEach((plot) => watcher.observe(plot));
    dark.addEventListener("change", () => drawn.forEach(draw));
    window.addEventListener("assay-theme", () => drawn.forEach(draw));
    window.addEventListener("beforeprint", () => plots.forEach(drawOnce));
  }

  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) {
      return navigator.clipboard.writeText(text);
    }
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("copying is not possible here");
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const said = await copy(button.previousElementSibling.textContent).then(
        () => "Copied", () => "Select and copy");
      button.textContent = said;
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }

  // A link to a case opens what the case holds.
  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = target && target.querySelector(".case > tr > td > details");
    if (details) details.open = true;
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();
})();
