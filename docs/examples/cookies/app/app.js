import { Session } from "./session.js";

const $ = (css) => document.querySelector(css);
const { auth, api } = Object.fromEntries([...document.querySelectorAll("meta[name]")].map((m) => [m.name, m.content]));
const say = (text) => { $("#message").textContent = text; };

const session = new Session(auth, "notes-app", show);

function show(who) {
  $("#login").hidden = who !== null;
  $("main").hidden = who === null;
  $("#who").textContent = who?.username ?? "";
  $("ul").replaceChildren();
  if (who) list();
}

async function list() {
  const res = await session.fetch(`${api}/notes`);
  if (!res.ok) return;
  $("ul").replaceChildren(...(await res.json()).map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

// on does something when a form is sent or a button pressed, and says what went wrong.
function on(css, event, act) {
  $(css).addEventListener(event, async (e) => {
    e.preventDefault();
    say("");
    try {
      await act(e.target);
    } catch (err) {
      say(err.message);
    }
  });
}

on("#login", "submit", async (form) => {
  await session.logIn(form.username.value, form.password.value);
  form.reset();
});
on("#logout", "click", () => session.logOut());
on("#add", "submit", async (form) => {
  const res = await session.fetch(`${api}/notes`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text: form.text.value }),
  });
  if (!res.ok) return;
  form.reset();
  await list();
});

session.who().then(show, (err) => say(err.message));
