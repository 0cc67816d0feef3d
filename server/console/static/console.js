// What the console does with a script, beside htmx: each of these is a comfort, and every page works without.
"use strict";

// Things that only a script can serve are hidden until there is one.
for (const e of document.querySelectorAll("[data-script]")) e.hidden = false;

// A page that shows a secret once was the answer to a form: a reload opens the page behind it, and does not send the form again.
if (document.body.dataset.back) history.replaceState(null, "", document.body.dataset.back);

// What was done, or what is wrong with a form, is where reading goes on; but where one is to type at once, one is.
const news = document.querySelector("main > .note, main [role=alert]");
if (news && !document.querySelector("[autofocus]")) {
  news.tabIndex = -1;
  news.focus({ preventScroll: true });
}

// Copy buttons.
async function copy(text, from) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  getSelection().selectAllChildren(from); // without https there is no clipboard
  if (!document.execCommand("copy")) throw new Error("not copied");
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  const from = document.getElementById(button.dataset.copy);
  const label = button.innerHTML;
  const said = document.createElement("span");
  said.className = "sr";
  said.setAttribute("role", "status");
  button.after(said);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await copy(from.textContent, from);
      button.textContent = said.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(from);
      button.textContent = said.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.innerHTML = label; said.textContent = ""; }, 2500);
  });
}

// Times go on. The words are those of the server's (relative in view.go).
const units = [[60, 1, "second"], [3600, 60, "minute"], [172800, 3600, "hour"], [Infinity, 86400, "day"]];
function relative(then) {
  const seconds = Math.round((Date.now() - then) / 1000), length = Math.abs(seconds);
  if (length < 5) return "just now";
  const [, size, name] = units.find(([below]) => length < below);
  const n = Math.round(length / size), text = n + " " + name + (n === 1 ? "" : "s");
  return seconds < 0 ? "in " + text : text + " ago";
}
setInterval(() => {
  for (const e of document.querySelectorAll("[data-ago]")) {
    const text = relative(Date.parse(e.dataset.ago));
    if (e.textContent !== text) e.textContent = text;
  }
}, 10000);

// Where the server does not answer, what is shown may be old: the page says so until it does.
const trouble = document.createElement("p");
trouble.className = "note bad";
trouble.setAttribute("role", "status");
const troubled = () => { trouble.textContent = "The server does not answer at the moment. What you see may be old."; document.getElementById("main").prepend(trouble); };
document.addEventListener("htmx:responseError", troubled);
document.addEventListener("htmx:sendError", troubled);
document.addEventListener("htmx:afterOnLoad", () => trouble.remove());
