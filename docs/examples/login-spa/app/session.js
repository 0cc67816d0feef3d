// Who is logged in, with oidc-client-ts. Its tokens are in localStorage: all tabs have the same ones.
const { UserManager, WebStorageStateStore } = globalThis.oidc;

export class Session {
  #users;

  constructor(settings) {
    const home = `${location.origin}/`;
    this.#users = new UserManager({
      ...settings,
      redirect_uri: home,
      post_logout_redirect_uri: home,
      userStore: new WebStorageStateStore({ store: localStorage }),
      automaticSilentRenew: false, // each tab would do it for itself
    });
  }

  login() { return this.#users.signinRedirect(); }

  // callback takes what Signet sent along with the browser, if it did.
  async callback() {
    const answer = new URLSearchParams(location.search);
    if (!answer.has('state')) return;
    history.replaceState(null, '', location.pathname); // whatever comes of it, it is not used twice
    if (answer.has('code') || answer.has('error')) await this.#users.signinCallback(`${location.origin}/?${answer}`);
  }

  // user returns who is logged in, with an access token that lives, or null. A refresh token is good once: one tab at a time
  // refreshes, and those that waited find what it got. Browsers may show a tab a moment later what another one has kept: then
  // both refresh with the same token, and Signet gives both the same successor.
  user() {
    return navigator.locks.request('tokens', async () => {
      const user = await this.#users.getUser();
      if (!user || user.expires_in > 2) return user;
      try {
        return await this.#users.signinSilent(); // by the refresh token
      } catch (err) {
        if (err.error !== 'invalid_grant') throw err; // the network; it may be back soon
        await this.#users.removeUser(); // logged out elsewhere, or by an administrator
        return null;
      }
    });
  }

  async fetch(url, options = {}) {
    const user = await this.user();
    if (!user) return new Response(null, { status: 401 });
    return fetch(url, { ...options, headers: { ...options.headers, Authorization: `Bearer ${user.access_token}` } });
  }

  // logout forgets the tokens, and sends the browser to Signet to end the login and the session there.
  logout() { return this.#users.signoutRedirect(); }
}
