// What the desk does with script on: it keeps itself fresh, shows times where you are, and takes the theme you like.
(() => {
  "use strict";
  const root = document.documentElement;
  const kept = (name, value) => {
    try {
      if (value !== undefined) localStorage.setItem(`nightcrew-desk-${name}`, value);
      return localStorage.getItem(`nightcrew-desk-${name}`);
    } catch {
      return null;
    }
  };
  const theme = (value) => (value === "light" || value === "dark" ? root.setAttribute("data-theme", value) : root.removeAttribute("data-theme"));
  theme(kept("theme"));

  const shapes = {
    full: { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" },
    day: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" },
    clock: { hour: "2-digit", minute: "2-digit" },
  };
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const written = (moment, shape, zone) =>
    new Intl.DateTimeFormat("en-GB", { ...shapes[shape], hourCycle: "h23", timeZone: zone }).format(moment).replace(" at ", ", ");

  function zone() {
    const named = kept("zone") === "here" ? here : "UTC";
    for (const time of document.querySelectorAll("time[data-shape]")) {
      const moment = new Date(time.dateTime);
      time.title = `${written(moment, "full", named)} ${named}`;
      if (time.dataset.shape !== "ago") time.textContent = written(moment, time.dataset.shape, named);
    }
    for (const name of document.querySelectorAll("[data-zone]")) name.textContent = named;
  }

  // Marked regions are taken from a fresh copy of the page, except one that somebody is in the middle of.
  let timer = 0;
  async function fetched() {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
      return answer.ok ? await answer.text() : null;
    } catch {
      return null;
    }
  }
  async function refresh() {
    if (document.hidden || !document.querySelector("main [data-live]")) return;
    const text = await fetched();
    document.getElementById("stale").hidden = text !== null;
    if (text === null) return;
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const found = fresh.getElementById(old.id);
      if (!found || found.outerHTML === old.outerHTML) continue;
      if (old.contains(document.activeElement) && document.activeElement !== document.body) continue;
      old.className = found.className;
      old.hidden = found.hidden;
      old.replaceChildren(...found.childNodes);
    }
    document.title = fresh.title;
    const icon = fresh.querySelector("link[rel=icon]");
    if (icon) document.querySelector("link[rel=icon]").href = icon.getAttribute("href");
    zone();
  }
  function pulse() {
    clearInterval(timer);
    const chosen = kept("pulse");
    const seconds = Number(chosen ?? (document.querySelector("[data-busy]") ? 5 : 15));
    if (seconds > 0) timer = setInterval(refresh, seconds * 1000);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const knobs = document.getElementById("knobs");
    if (!knobs) return;
    knobs.hidden = false;
    const defaults = { zone: "utc", pulse: document.querySelector("[data-busy]") ? "5" : "15", theme: "auto" };
    const turned = { zone, pulse, theme: () => theme(kept("theme")) };
    for (const knob of knobs.querySelectorAll("[data-knob]")) {
      const name = knob.dataset.knob;
      knob.value = kept(name) ?? defaults[name];
      knob.addEventListener("change", () => (kept(name, knob.value), turned[name]()));
    }
    zone();
    pulse();
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
    document.addEventListener("submit", (event) => {
      const button = event.submitter;
      if (button && event.target.method === "post") setTimeout(() => (button.disabled = true));
    });
  });
})();
