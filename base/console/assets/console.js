// The console's only script. Every page works without it; it adds live fragments, reading charts, copying, and the "/" key.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // What needs script is hidden until there is one.
  const reveal = (root) => {
    $$("[data-copy][hidden], [data-live-toggle][hidden]", root).forEach((el) => { el.hidden = false; });
    $$("[data-hit]", root).forEach((hit) => { hit.tabIndex = 0; hit.setAttribute("role", "application"); hit.setAttribute("aria-label", "Read values with the arrow keys"); });
  };

  // Copying: the text of the nearest code.
  const copy = async (button) => {
    const code = $("code", button.parentElement);
    const words = button.firstChild.textContent;
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // No clipboard without HTTPS beyond loopback: select it, so that one key copies.
      getSelection().selectAllChildren(code);
      done = false;
    }
    button.firstChild.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.firstChild.textContent = words; }, 1500);
  };

  const setTheme = (form, button) => {
    if (button.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = button.value;
    $$("button", form).forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
    const body = new URLSearchParams(new FormData(form));
    body.set("theme", button.value);
    fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => {});
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const button = target.closest("button");
    if (button?.hasAttribute("data-copy")) copy(button);
    else if (button?.hasAttribute("data-live-toggle")) live.toggle();
    else if (button?.form?.hasAttribute("data-theme-form")) { event.preventDefault(); setTheme(button.form, button); }
    $$("details.menu[open]").forEach((menu) => { if (!menu.contains(target)) menu.open = false; });
  });
  document.addEventListener("change", (event) => {
    const el = event.target;
    if (el.matches("[data-submit]")) el.form.requestSubmit();
    if (el.matches(".check input")) {
      const count = $$(".check input:checked", el.form).length;
      const words = $("[data-chosen]", el.form);
      if (words) words.textContent = count ? `With ${count} chosen` : "With those chosen";
    }
  });

  // Keys: "/" searches, "g" then a letter goes to the first system of that letter, Escape closes menus.
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      $$("details.menu[open]").forEach((menu) => { menu.open = false; $("summary", menu).focus(); });
      if (document.activeElement?.closest(".search")) document.activeElement.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, [contenteditable]")) return;
    if (event.key === "/") {
      event.preventDefault();
      const box = $(".search input");
      box?.focus();
      box?.select();
    } else if (event.timeStamp < going) {
      going = 0;
      const start = event.key.toLowerCase();
      if (start === "h") $(".rail .brand")?.click();
      else $$(".rail li a").find((a) => a.textContent.trim().toLowerCase().startsWith(start))?.click();
    } else if (event.key === "g") going = event.timeStamp + 1500;
  });

  // Charts: the values come from the table behind each, so the page carries them once.
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, attributes) => {
    const el = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => el.setAttribute(key, value));
    return el;
  };
  const clear = (chart) => $$(".tip, .cross, .point", chart).forEach((el) => el.remove());
  const show = (chart, row) => {
    clear(chart);
    const x = Number(row.dataset.x);
    const shapes = $(".shapes", chart);
    shapes.append(svg("path", { class: "cross", d: `M${x} 0V200`, "vector-effect": "non-scaling-stroke" }));
    const heads = $$("thead th", chart).map((th) => th.textContent);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    const line = (name, value, series) => {
      const div = document.createElement("div");
      if (series !== undefined) {
        const key = svg("svg", { class: `key s${series}`, viewBox: "0 0 10 10", width: 10, height: 10 });
        key.append(svg("rect", { width: 10, height: 10, rx: 2 }));
        div.append(key);
      }
      const b = document.createElement("b");
      b.textContent = value;
      div.append(name, b);
      tip.append(div);
    };
    line($("th", row).textContent, "");
    const heat = $(".heat", shapes) !== null;
    [...row.cells].slice(1).reverse().forEach((cell, back) => {
      const at = row.cells.length - 2 - back;
      // A heat map's column has many rows: only those that count something.
      if (heat && cell.textContent === "0") return;
      line(heads[at + 1], cell.textContent, heat ? undefined : at);
      const y = cell.dataset.y;
      if (y !== undefined) shapes.append(svg("path", { class: `point s${at}`, d: `M${x} ${y}h0`, "vector-effect": "non-scaling-stroke" }));
    });
    const hit = $("[data-hit]", chart);
    hit.append(tip);
    const left = (x / 1000) * hit.clientWidth;
    const room = hit.clientWidth - tip.offsetWidth;
    const beside = left > hit.clientWidth / 2 ? left - tip.offsetWidth - 12 : left + 12;
    // Through the object model, which the policy allows; a style attribute it does not.
    tip.style.left = `${Math.max(0, Math.min(room, beside))}px`;
    chart.dataset.row = String(row.rowIndex - 1);
  };
  const rows = (chart) => $$("tbody tr", chart);
  document.addEventListener("pointermove", (event) => {
    const hit = event.target.closest?.("[data-hit]");
    $$("[data-row]").forEach((chart) => {
      if (!chart.contains(event.target) && !chart.contains(document.activeElement)) { clear(chart); delete chart.dataset.row; live.release(); }
    });
    if (!hit) return;
    const chart = hit.closest(".chart");
    const box = hit.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * 1000;
    const nearest = rows(chart).reduce((best, row) => (!best || Math.abs(row.dataset.x - x) < Math.abs(best.dataset.x - x) ? row : best), null);
    if (nearest && chart.dataset.row !== String(nearest.rowIndex - 1)) show(chart, nearest);
  });
  document.addEventListener("keydown", (event) => {
    const chart = event.target.matches?.("[data-hit]") && event.target.closest(".chart");
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e6, End: 1e6 }[event.key];
    if (!chart || !step) return;
    event.preventDefault();
    const all = rows(chart);
    const now = chart.dataset.row === undefined ? (step > 0 ? -1 : all.length) : Number(chart.dataset.row);
    const row = all[Math.max(0, Math.min(all.length - 1, now + step))];
    if (row) show(chart, row);
  });
  document.addEventListener("focusout", (event) => {
    const chart = event.target.matches?.("[data-hit]") && event.target.closest(".chart");
    if (chart) { clear(chart); delete chart.dataset.row; live.release(); }
  });

  // Live: one stream a page. Each event carries the id of a fragment and its new content.
  const live = (() => {
    const url = $("[data-live]")?.dataset.live;
    const button = $("[data-live-toggle]");
    const waiting = new Map();
    let source = null;
    let paused = false;
    const say = (state) => { if (button) { button.dataset.state = state; button.textContent = { on: "● Live", paused: "○ Paused", lost: "▲ Reconnecting" }[state]; } };
    const busy = (el) => $("[data-row]", el) !== null || (!getSelection().isCollapsed && getSelection().containsNode(el, true)) || (el.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
    const put = (id, html) => {
      const el = document.getElementById(id);
      if (!el) return;
      if (busy(el)) { waiting.set(id, html); return; }
      const open = $$("details", el).map((d) => d.open);
      const checked = new Set($$("input:checked", el).map((i) => i.value));
      const focused = el.contains(document.activeElement) ? $$("a, button, summary, [tabindex]", el).indexOf(document.activeElement) : -1;
      const scrolled = $$(".scroll", el).map((s) => s.scrollTop);
      el.innerHTML = html;
      $$("details", el).forEach((d, i) => { d.open = open[i] ?? d.open; });
      $$("input[type=checkbox]", el).forEach((i) => { i.checked = checked.has(i.value); });
      $$(".scroll", el).forEach((s, i) => { s.scrollTop = scrolled[i] ?? 0; });
      reveal(el);
      if (focused >= 0) $$("a, button, summary, [tabindex]", el)[focused]?.focus({ preventScroll: true });
    };
    const open = () => {
      if (!url || source || paused || document.hidden) return;
      source = new EventSource(url);
      source.onopen = () => say("on");
      source.onerror = () => say("lost");
      source.addEventListener("fragment", (event) => {
        const { id, html } = JSON.parse(event.data);
        put(id, html);
      });
    };
    const close = () => { source?.close(); source = null; };
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    addEventListener("pagehide", close);
    addEventListener("pageshow", open);
    return {
      open,
      toggle: () => { paused = !paused; if (paused) { close(); say("paused"); } else open(); },
      release: () => { const all = [...waiting]; waiting.clear(); all.forEach(([id, html]) => put(id, html)); },
    };
  })();

  reveal(document);
  live.open();
})();
