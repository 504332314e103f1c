// Asks the browser for a passkey and sends its answer with the form it belongs to: data-passkey is "create" or "get",
// data-options where to ask for the options. Without this script a code does.
"use strict";
(() => {
  const bytesOf = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const textOf = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  }

  async function send(form) {
    const button = form.querySelector("button");
    say(form, "");
    button.disabled = true;
    try {
      form.elements.credential.value = JSON.stringify(await ask(form));
      form.submit();
    } catch (error) {
      say(form, error.name);
    }
    button.disabled = false;
  }

  async function ask(form) {
    if (!window.PublicKeyCredential) throw new DOMException("", "SecurityError");
    const body = new URLSearchParams({ csrf_token: form.elements.csrf_token.value });
    const answer = await fetch(form.dataset.options, { method: "POST", body, headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    const options = withBytes(await answer.json());
    const made = await navigator.credentials[form.dataset.passkey]({ publicKey: options });
    return asJson(made);
  }

  function withBytes(options) {
    const listed = (list) => list?.map((each) => ({ ...each, id: bytesOf(each.id) }));
    const read = { ...options, challenge: bytesOf(options.challenge) };
    if (options.user) read.user = { ...options.user, id: bytesOf(options.user.id) };
    if (options.excludeCredentials) read.excludeCredentials = listed(options.excludeCredentials);
    if (options.allowCredentials) read.allowCredentials = listed(options.allowCredentials);
    return read;
  }

  function asJson(made) {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (made.response[name]) response[name] = textOf(made.response[name]);
    }
    return { id: made.id, rawId: textOf(made.rawId), type: made.type, response };
  }

  function say(form, name) {
    const words = form.querySelector("[data-other]");
    const key = { NotAllowedError: "cancelled", InvalidStateError: "known", SecurityError: "impossible" }[name] ?? "other";
    words.hidden = !name;
    words.textContent = name ? words.dataset[key] : "";
  }
})();
