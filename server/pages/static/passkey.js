// Asks an authenticator, and sends its answer with the form. Without a script, or an authenticator, the rest of the page works as it is.
"use strict";
(() => {
  const button = document.querySelector("button[data-passkey]");
  if (!button || !window.PublicKeyCredential || !PublicKeyCredential.parseCreationOptionsFromJSON) return;
  const form = button.form, problem = document.querySelector("[data-passkey-problem]");
  const bytes = Uint8Array.from(atob(button.dataset.options.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const options = JSON.parse(new TextDecoder().decode(bytes));
  const creates = button.dataset.passkey === "create";
  let waiting = null; // the question that the browser puts among the names it fills in

  const ask = (more) => {
    const publicKey = creates ? PublicKeyCredential.parseCreationOptionsFromJSON(options) : PublicKeyCredential.parseRequestOptionsFromJSON(options);
    return creates ? navigator.credentials.create({ publicKey }) : navigator.credentials.get({ publicKey, ...more });
  };
  const send = (credential) => {
    form.elements.answer.value = JSON.stringify(credential.toJSON());
    if (button.hasAttribute("formaction")) form.action = button.getAttribute("formaction");
    form.submit();
  };

  // Where the page works without a passkey, Enter in one of its fields is not to ask for one.
  if (button.hasAttribute("formnovalidate")) button.type = "button";
  button.hidden = false;
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    if (creates && !button.hasAttribute("formnovalidate") && !form.reportValidity()) return;
    if (waiting) waiting.abort();
    problem.hidden = true;
    button.disabled = true;
    try {
      send(await ask({}));
    } catch {
      problem.hidden = false;
      button.disabled = false;
    }
  });

  const offer = async () => {
    if (!("conditional" in button.dataset) || !PublicKeyCredential.isConditionalMediationAvailable || !(await PublicKeyCredential.isConditionalMediationAvailable())) return;
    waiting = new AbortController();
    try {
      send(await ask({ mediation: "conditional", signal: waiting.signal }));
    } catch {
      // Nobody has chosen one; the button is there still.
    }
  };
  void offer();
})();
