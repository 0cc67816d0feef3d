import { Session } from './session.js';

const settings = await (await fetch('/settings.json')).json();
const session = new Session(settings);
const $ = (id) => document.getElementById(id);

async function show() {
  const user = await session.user();
  $('who').textContent = user ? `You are ${user.profile.preferred_username}.` : 'You are not logged in.';
  $('login').hidden = Boolean(user);
  $('hello').hidden = $('logout').hidden = !user;
  if (!user) $('said').textContent = '';
  return user;
}

$('login').onclick = () => session.login();
$('logout').onclick = () => session.logout();
$('hello').onclick = async () => {
  const res = await session.fetch('/hello');
  if (res.status === 401) return show();
  $('said').textContent = res.ok ? (await res.json()).hello : `The API answers ${res.status}.`;
};
addEventListener('storage', show); // another tab has logged in or out

let failed = '';
try {
  await session.callback();
} catch (err) {
  failed = `The login did not work: ${err.message}`;
}
// Who is logged in all the same has come back by the browser's button, with an answer that nobody waits for any more.
if (!(await show())) $('said').textContent = failed;
