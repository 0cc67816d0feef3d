// Somebody at a browser that runs no scripts: it keeps cookies, follows redirects, and sends the forms that it is shown.
import assert from 'node:assert/strict';
import { password, username } from './signet.mjs';

const entities = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const decode = (text) => text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (whole, decimal, hex, name) =>
  name ? (entities[name] ?? whole) : String.fromCodePoint(decimal ? Number(decimal) : parseInt(hex, 16)));
const attribute = (tag, name) => {
  const found = tag.match(new RegExp(`\\s${name}(?:="([^"]*)"|(?=[\\s>]))`));
  return found && decode(found[1] ?? '');
};

export class Browser {
  cookies = new Map(); // of each host, without regard to the port, as browsers do it

  // Opens an address and returns the page that it leads to, or the address that begins with `until`, where nobody listens.
  async open(address, { form, until } = {}) {
    let url = new URL(address);
    for (let hops = 0; hops < 20; hops++) {
      if (until && url.href.startsWith(until)) return { url };
      const jar = this.cookies.get(url.hostname) ?? new Map();
      this.cookies.set(url.hostname, jar);
      const res = await fetch(url, {
        method: form ? 'POST' : 'GET', body: form, redirect: 'manual',
        headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') },
      });
      for (const line of res.headers.getSetCookie()) {
        const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
        if (/;\s*max-age=(0|-\d+)\b/i.test(line) || /;\s*expires=thu, 01 jan 1970/i.test(line)) jar.delete(name);
        else jar.set(name, value);
      }
      const body = await res.text();
      if (res.status < 300 || res.status > 399) return { url, status: res.status, body, form: this.#form(url, body) };
      form = undefined;
      url = new URL(res.headers.get('location'), url);
    }
    assert.fail(`${address} leads nowhere`);
  }

  // The first form of a page.
  #form(url, body) {
    const [whole, open] = body.match(/(<form[^>]*>)[^]*?<\/form>/) ?? [];
    if (!whole) return undefined;
    const fields = new URLSearchParams();
    for (const [tag] of whole.matchAll(/<input[^>]*>/g)) {
      if (attribute(tag, 'type') !== 'checkbox') fields.set(attribute(tag, 'name'), attribute(tag, 'value') ?? '');
    }
    return { action: new URL(attribute(open, 'action') ?? '', url), fields };
  }

  // Sends the page's form, with more fields.
  submit(page, more, options) {
    assert.ok(page.form, `${page.url} has no form: ${page.status} ${page.body}`);
    for (const [name, value] of Object.entries(more)) page.form.fields.set(name, value);
    return this.open(page.form.action, { ...options, form: page.form.fields });
  }

  // Opens an address and does what Signet's pages ask: gives the password, allows the app.
  async logIn(address, options) {
    let page = await this.open(address, options);
    if (page.form?.fields.has('password')) page = await this.submit(page, { username, password }, options);
    if (page.form?.action.pathname === '/consent') page = await this.submit(page, { decision: 'allow' }, options);
    return page;
  }
}
