// Loads htmx after the page itself, so that a hanging or blocked CDN costs nothing but htmx; then small helpers.
"use strict";
(() => {
  const GIVE_UP_MS = 1500; // on the CDN, when there is another place to ask
  const root = document.documentElement;
  const source = document.currentScript.dataset;
  root.classList.add("js");

  // ---- A page that shows something in progress reloads itself, until htmx runs and polls the part.
  const reloadEvery = document.querySelector("meta[name=reload-every]");
  let reload = reloadEvery && setTimeout(reloadPage, reloadEvery.content * 1000);

  function reloadPage() {
    if (document.activeElement?.matches("input, textarea, select")) {
      reload = setTimeout(reloadPage, 1000); // not while the person types
    } else {
      const again = new URL(reloadEvery.dataset.again, location);
      if (location.href === again.href) location.reload(); // which stays where one has scrolled to
      else location.replace(again);
    }
  }

  // ---- htmx. It starts by itself when it arrives after the window's load event, and not at all shortly before.
  if (source.htmx) {
    if (document.readyState === "complete") load();
    else addEventListener("load", load);
  }

  function load() {
    const first = addScript(source.htmx, source.integrity);
    const late = source.fallback && setTimeout(second, GIVE_UP_MS);
    first.addEventListener("load", () => (window.htmx ? arrived() : second()));
    first.addEventListener("error", second);
    let isSecondTried = !source.fallback;

    function second() {
      clearTimeout(late);
      if (isSecondTried) return;
      isSecondTried = true;
      // A script that was moved to another document never runs, so htmx runs once even if the first one still arrives.
      document.implementation.createHTMLDocument("").adoptNode(first);
      addScript(source.fallback).addEventListener("load", arrived);
    }

    function arrived() {
      clearTimeout(late);
      clearTimeout(reload);
    }
  }

  function addScript(url, integrity) {
    const script = document.createElement("script");
    if (integrity) {
      script.integrity = integrity;
      script.crossOrigin = "anonymous";
    }
    script.src = url;
    document.head.append(script);
    return script;
  }

  // ---- Failures of single requests are shown at the top of the page (the server's own message comes as a part: web/errors.py).
  const trouble = () => document.getElementById("trouble");

  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, () => {
      const words = document.getElementById("unreachable");
      if (words && !trouble().firstElementChild) trouble().append(words.content.cloneNode(true));
    });
  }
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) trouble()?.replaceChildren();
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === trouble()) trouble().scrollIntoView({ block: "nearest" });
  });

  // ---- A form that came back with errors: go to the first of them.
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.xhr?.status === 422) focusFirstError();
  });
  focusFirstError();

  function focusFirstError() {
    document.querySelector("main [aria-invalid=true]")?.focus();
  }

  // ---- Boxes stay ticked while pages of a table are turned: those on other pages go along in the form, with their number told.
  const ticked = new Set();
  const boxes = () => document.querySelectorAll(".tick input[name=id]");
  document.addEventListener("change", (event) => {
    if (event.target.matches(".tick input[name=id]")) event.target.checked ? ticked.add(event.target.value) : ticked.delete(event.target.value);
  });
  for (const name of ["htmx:afterSwap", "htmx:historyRestore"]) document.addEventListener(name, tickAgain);

  function tickAgain() {
    const elsewhere = new Set(ticked);
    for (const box of boxes()) box.checked = elsewhere.delete(box.value);
    const note = document.querySelector("[data-elsewhere]");
    if (!note) return;
    note.querySelectorAll("input").forEach((input) => input.remove());
    note.hidden = !elsewhere.size;
    note.querySelector("b").textContent = elsewhere.size;
    for (const id of elsewhere) {
      const input = document.createElement("input");
      Object.assign(input, { type: "hidden", name: "id", value: id });
      note.append(input);
    }
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-untick]")) return;
    ticked.clear();
    for (const box of boxes()) if (box.checked) ticked.add(box.value);
    tickAgain();
  });

  // ---- Show a password that is being typed: data-reveal names the field.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-reveal]");
    if (!button) return;
    const field = document.getElementById(button.dataset.reveal);
    const isShown = field.type === "password";
    field.type = isShown ? "text" : "password";
    button.setAttribute("aria-pressed", isShown);
    field.focus();
  });
  // Nothing but a password field is asked to be stored as one.
  document.addEventListener("submit", (event) => {
    for (const button of event.target.querySelectorAll("[data-reveal][aria-pressed=true]")) button.click();
  });

  // ---- The log-in tells where this browser is: the person's first time zone.
  for (const field of document.querySelectorAll("[data-time-zone]")) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  }

  // ---- Copy buttons: data-copy names the field.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = document.getElementById(button.dataset.copy);
    const words = button.querySelector("[data-copied]");
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      field.select(); // not allowed here: ready for Ctrl-C
      return;
    }
    if (!words) return;
    const before = words.textContent;
    words.textContent = words.dataset.copied;
    setTimeout(() => (words.textContent = before), 2000);
  });
})();
