// Filters, search, sorting, downloads and the choice of a colour scheme. Without it every page
// still holds everything that it shows. What is filtered is in the address, so that it can be
// linked to.
"use strict";
(() => {
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const params = new URLSearchParams(location.search);

  function remember(name, value) {
    if (value) params.set(name, value); else params.delete(name);
    const query = params.toString();
    history.replaceState(null, "", location.pathname + (query ? `?${query}` : "") + location.hash);
  }

  function made(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // --- colour scheme ---------------------------------------------------------------------------

  const THEMES = ["system", "light", "dark"];
  const theme = document.querySelector("button.theme");
  if (theme) {
    const root = document.documentElement;
    const name = theme.querySelector("span");
    name.textContent = root.dataset.theme || "system";
    theme.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(name.textContent) + 1) % THEMES.length];
      name.textContent = next;
      if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
      try { localStorage.setItem("assay-theme", next); } catch { /* it holds for this page only */ }
      window.dispatchEvent(new Event("assay-theme"));
    });
  }

  // --- numbers as the pages write them -----------------------------------------------------------

  // Three significant digits and no exponent, as results.display.significant.
  function significant(value) {
    const rounded = Number(value.toPrecision(3));
    if (rounded === 0) return "0";
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(rounded))));
    if (decimals > 9) return value.toExponential(2);
    return rounded.toLocaleString("en-US", {
      minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }
  const ratio = (value) => `${significant(value)}×`;

  // --- the overview: filters and baseline --------------------------------------------------------

  const numbers = (cell) => ({
    value: Number(cell.dataset.speed), low: Number(cell.dataset.low), high: Number(cell.dataset.high),
  });
  const LEAST = 3;  // models that a mean takes, as reports.matrix.LEAST

  function relative(table, wanted) {
    const shown = (cell) => !cell.hidden;
    const rows = $$("tr[data-model]", table).filter((row) => !row.hidden);
    const speeds = rows.map((row) => new Map($$("td[data-speed]", row).filter(shown)
      .map((cell) => [cell.dataset.adapter, cell])));
    const columns = $$("thead th[data-adapter]", table).filter(shown)
      .map((head) => head.dataset.adapter);
    const having = columns.filter((adapter) => speeds.some((row) => row.has(adapter)));
    const first = wanted || table.dataset.baseline;
    const baseline = having.includes(first) ? first : having[0];
    $$(".baseline", table).forEach((name) => { name.textContent = baseline || "nobody"; });
    for (const row of speeds) {
      const base = row.get(baseline);
      for (const [adapter, cell] of row) {
        const mine = numbers(cell);
        const theirs = base && numbers(base);
        const bold = cell.querySelector(".speed b");
        const told = cell.querySelector(".told");
        bold.textContent = theirs && theirs.value > 0 ? ratio(mine.value / theirs.value) : "";
        const known = theirs && ![mine.low, mine.high, theirs.low, theirs.high].some(Number.isNaN);
        const overlap = known && mine.low <= theirs.high && theirs.low <= mine.high;
        told.textContent = adapter === baseline ? "baseline" : overlap ? "within noise" : "";
      }
    }
    mean(table, speeds, having, baseline);
  }

  function mean(table, speeds, having, baseline) {
    const row = table.querySelector("tr.mean");
    if (!row) return;
    const some = speeds.filter((found) => found.size);
    const common = some.filter((found) => having.every(
      (adapter) => found.has(adapter) && numbers(found.get(adapter)).value > 0));
    const enough = common.length >= LEAST;
    row.querySelector(".subset").textContent = enough
      ? `of ${common.length} models that all share`
      : `none: ${common.length} of ${some.length} models in common, ${LEAST} are needed`;
    for (const cell of $$("td[data-adapter]", row)) {
      const adapter = cell.dataset.adapter;
      if (!enough || !having.includes(adapter)) { cell.textContent = "–"; continue; }
      const logs = common.map((found) => Math.log(
        numbers(found.get(adapter)).value / numbers(found.get(baseline)).value));
      const value = Math.exp(logs.reduce((a, b) => a + b, 0) / logs.length);
      cell.replaceChildren(made("b", {}, ratio(value)));
    }
  }

  const filters = document.querySelector("form#filters");
  if (filters) {
    const FACETS = ["mode", "precision", "device"];
    const field = (name) => filters.elements[name];
    const boxes = $$("input[name=adapter]", filters);

    const read = () => {
      for (const name of [...FACETS, "model", "baseline"]) {
        if (field(name)) field(name).value = params.get(name) || "";
      }
      const wanted = params.get("adapters");
      const names = wanted && wanted.split(",");
      boxes.forEach((box) => { box.checked = !names || names.includes(box.value); });
    };

    const apply = () => {
      const model = field("model").value.trim().toLowerCase();
      const adapters = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      let shown = 0;
      for (const block of $$("section.block")) {
        const fits = FACETS.every((name) => !field(name).value || block.dataset[name] === field(name).value);
        for (const row of $$("tr[data-model]", block)) {
          row.hidden = !row.dataset.model.toLowerCase().includes(model);
        }
        for (const cell of $$("[data-adapter]", block)) {
          cell.hidden = !adapters.has(cell.dataset.adapter);
        }
        const rows = $$("tr[data-model]", block).filter((row) => !row.hidden).length;
        block.hidden = !fits || rows === 0;
        if (!block.hidden) {
          shown += 1;
          relative(block.querySelector("table"), field("baseline") ? field("baseline").value : "");
        }
      }
      const all = $$("section.block").length;
      filters.querySelector(".count").textContent =
        `${shown} of ${all} tables` + (shown ? "" : ": nothing fits these filters");
      for (const name of [...FACETS, "model", "baseline"]) {
        if (field(name)) remember(name, field(name).value.trim());
      }
      const every = adapters.size === boxes.length;
      remember("adapters", every ? "" : [...adapters].join(",") || "none");
    };

    read();
    apply();
    filters.addEventListener("input", apply);
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("reset", () => setTimeout(apply));
  }

  // --- tables: facets, search, sorting, downloads --------------------------------------------------

  const textOf = (cell) => cell.innerText.replace(/\s+/g, " ").trim();
  const quick = (cell) => cell.textContent.replace(/\s+/g, " ").trim();

  function numberOf(cell) {
    const value = Number(cell.dataset.value ?? NaN);
    if (!Number.isNaN(value)) return value;
    const found = quick(cell).match(/^[≤⚑ ]*(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)/i);
    return found ? Number(found[1].replaceAll(",", "")) : NaN;
  }

  function searchable(table) {
    const heads = $$("thead th", table);
    const rows = $$("tbody tr", table);
    const facets = heads.flatMap((head, place) => head.dataset.facet
      ? [{ name: head.dataset.facet, place }] : []);
    const form = table.closest(".scroll").previousElementSibling;
    const search = form.elements.q;
    for (const facet of facets) {
      const values = [...new Set(rows.map((row) => row.cells[facet.place])
        .filter(Boolean).map(quick))].sort();
      facet.select = form.elements[facet.name];
      facet.select.append(...values.map((value) => made("option", { value }, value)));
      facet.select.disabled = values.length < 2;
    }
    const chosen = facets;
    const count = form.querySelector(".count");
    const texts = rows.map((row) => quick(row).toLowerCase());

    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, place) => {
        const fits = words.every((word) => texts[place].includes(word)) && chosen.every(
          ({ select, place: at }) => !select.value
            || (row.cells[at] && quick(row.cells[at]) === select.value));
        row.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} rows`;
      remember("q", search.value.trim());
      chosen.forEach(({ name, select }) => remember(name, select.value));
    };
    search.value = params.get("q") || "";
    chosen.forEach(({ name, select }) => { select.value = params.get(name) || ""; });
    apply();
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(apply));
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    if (table.tBodies.length > 1 || rows.length < 2 || rows.some((row) => row.matches(".mean, .block"))) return;
    const heads = $$("thead th", table);
    heads.forEach((head, place) => {
      const button = made("button", { type: "button", class: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const keyed = [...body.rows].map((row) => {
          const cell = row.cells[place];
          return { row, number: cell ? numberOf(cell) : NaN, text: cell ? quick(cell) : "" };
        });
        const numeric = head.classList.contains("number");
        const order = (a, b) => {
          if (numeric) {  // what has no number stays last
            if (Number.isNaN(a.number) || Number.isNaN(b.number)) {
              return Number.isNaN(a.number) - Number.isNaN(b.number);
            }
            return up ? a.number - b.number : b.number - a.number;
          }
          return (up ? 1 : -1) * a.text.localeCompare(b.text, "en", { numeric: true });
        };
        body.append(...keyed.sort(order).map(({ row }) => row));
      });
    });
  }

  function save(name, type, text) {
    const link = made("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // What the table shows at this moment: visible rows and columns. Numbers are whole where known.
  function contents(table) {
    const heads = [...table.tHead.rows[0].cells].filter((cell) => !cell.hidden).map(textOf);
    const rows = $$("tbody tr", table).filter((row) => !row.hidden && row.offsetParent !== null);
    return { heads, rows: rows.map((row) => [...row.cells].filter((cell) => !cell.hidden)
      .map((cell) => {
        const value = Number(cell.dataset.value ?? NaN);
        return Number.isFinite(value) ? value : textOf(cell);
      })) };
  }

  // A text that a spreadsheet would take for a formula is marked as text.
  function quoted(value) {
    const text = String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function downloadable(table) {
    if (!table.tHead || !table.caption) return;
    const name = textOf(table.caption).toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60) || "table";
    const csv = made("button", { type: "button" }, "CSV");
    const json = made("button", { type: "button" }, "JSON");
    csv.addEventListener("click", () => {
      const { heads, rows } = contents(table);
      save(`${name}.csv`, "text/csv", [heads, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n");
    });
    json.addEventListener("click", () => {
      const { heads, rows } = contents(table);
      const named = rows.map((row) => Object.fromEntries(row.map((value, i) => [heads[i] ?? i, value])));
      save(`${name}.json`, "application/json", JSON.stringify(named, null, 1) + "\n");
    });
    const tools = made("details", { class: "tools" }, made("summary", {}, "Download"), csv, json);
    (table.closest(".scroll") || table).after(tools);
  }

  for (const table of $$("main .scroll > table")) {
    if (table.matches("[data-search]")) searchable(table);
    if (table.tBodies.length) { sortable(table); downloadable(table); }
  }
})();
