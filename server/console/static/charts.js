// Draws the charts of the overview from its table, which holds all their numbers.
"use strict";

(() => {
  const table = document.querySelector("#numbers table");
  const rows = [...table.tBodies[0].rows];
  const times = rows.map((r) => Number(r.dataset.t));
  const step = times[1] - times[0];
  document.getElementById("numbers").open = false;

  const two = (n) => String(n).padStart(2, "0");
  const clock = (t) => { const d = new Date(t * 1000); return two(d.getUTCHours()) + ":" + two(d.getUTCMinutes()); };
  const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  const day = (t) => { const d = new Date(t * 1000); return d.getUTCDate() + " " + months[d.getUTCMonth()]; };
  const minute = 60, hour = 3600;

  function draw(plot) {
    const column = Number(plot.dataset.column);
    const values = rows.map((r) => { const n = Number(r.cells[column + 1].textContent); return Number.isNaN(n) ? null : n; });
    const style = getComputedStyle(plot);
    const color = style.getPropertyValue("--chart").trim(), faint = style.getPropertyValue("--chart-grid").trim();
    const ink = style.getPropertyValue("--chart-ink").trim(), font = "12px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint, width: 1, size: 4 } };
    const write = plot.dataset.axis === "day" ? day : clock;
    const bars = plot.dataset.shape === "bars";
    plot.replaceChildren();
    return new uPlot({
      width: plot.clientWidth, height: 170, tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
      padding: [8, 12, 0, 0], legend: { show: true, live: true }, cursor: { y: false, points: { show: !bars }, drag: { x: false, y: false } },
      scales: { x: { range: (u, from, to) => [from - step / 2, to + step / 2] }, y: { range: (u, from, to) => [0, Math.max(4, Math.ceil(to * 1.1))] } },
      axes: [
        { ...axis, space: 60, size: 28, incrs: plot.dataset.axis === "day" ? [24 * hour, 48 * hour, 96 * hour, 168 * hour] : [5 * minute, 10 * minute, 15 * minute, 30 * minute, hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour], values: (u, splits) => splits.map(write) },
        { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7], values: (u, splits) => splits.map((n) => n >= 1e6 ? n / 1e6 + "M" : n >= 1e4 ? n / 1e3 + "k" : n) },
      ],
      series: [
        { value: (u, t) => t == null ? "–" : day(t) + ", " + clock(t), label: "UTC" },
        { label: table.tHead.rows[0].cells[column + 1].textContent, stroke: color, fill: color + (bars ? "" : "26"), width: bars ? 0 : 2,
          paths: bars ? uPlot.paths.bars({ size: [0.7, 40] }) : uPlot.paths.stepped({ align: 1 }), points: { show: !bars && values.filter((n) => n !== null).length < 4, size: 7, fill: color }, spanGaps: true, value: (u, n) => n ?? "–" },
      ],
    }, [times, values], plot);
  }

  const plots = new Map();
  const drawAll = () => { for (const plot of document.querySelectorAll(".plot")) { plots.get(plot)?.destroy(); plot.hidden = false; plots.set(plot, draw(plot)); } };
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  new ResizeObserver(() => { for (const [plot, chart] of plots) if (plot.clientWidth && plot.clientWidth !== chart.width) chart.setSize({ width: plot.clientWidth, height: 170 }); }).observe(document.querySelector(".charts"));
})();
