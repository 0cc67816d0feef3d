// A session whose tokens no script can read, this one included: the browser keeps them in cookies and sends them along.
const withCookies = { credentials: "include" };

export class Session {
  #url;
  #clientId;
  #renewal; // the one under way, for all calls of this tab that wait for it
  #tabs = new BroadcastChannel("session");

  /** onChange is called with who is logged in, null for nobody, when that changes, in this tab or another one. */
  constructor(authServer, clientId, onChange) {
    this.#url = `${authServer}/session`;
    this.#clientId = clientId;
    this.onChange = onChange;
    this.#tabs.onmessage = ({ data }) => onChange(data);
  }

  async logIn(username, password) {
    const res = await fetch(this.#url, {
      ...withCookies,
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ client_id: this.#clientId, username, password }),
    });
    const answer = await res.json();
    if (!res.ok) throw new Error(answer.error_description);
    this.#changed(answer);
  }

  async logOut() {
    const res = await fetch(this.#url, { ...withCookies, method: "DELETE" });
    if (!res.ok) throw new Error((await res.json()).error_description);
    this.#changed(null);
  }

  /** Who is logged in, null for nobody. */
  async who() {
    const res = await this.fetch(this.#url);
    if (res.status === 401) return null;
    const answer = await res.json();
    if (!res.ok) throw new Error(answer.error_description);
    return answer;
  }

  /** Like fetch, with the cookies. A call that is answered 401 is made once more, with a new access token. */
  async fetch(url, options) {
    const call = () => fetch(url, { ...options, ...withCookies });
    const renewed = localStorage.getItem("renewed");
    const res = await call();
    return res.status === 401 && await this.#renew(renewed) ? call() : res;
  }

  // Renews the access token, unless that has been done since the caller looked. One tab at a time: with the others' calls in
  // between, a refresh token that is overtaken would look like a stolen one.
  #renew(renewed) {
    this.#renewal ??= navigator.locks.request("session", async () => {
      if (localStorage.getItem("renewed") !== renewed) return true;
      const res = await fetch(`${this.#url}/refresh`, { ...withCookies, method: "POST" });
      if (res.ok) localStorage.setItem("renewed", Date.now());
      if (res.status === 401) this.#changed(null);
      return res.ok;
    }).finally(() => { this.#renewal = undefined; });
    return this.#renewal;
  }

  #changed(who) {
    this.#tabs.postMessage(who);
    this.onChange(who);
  }
}
