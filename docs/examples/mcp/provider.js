// What the SDK asks its client to keep: who it is registered as, its tokens, the PKCE verifier. And the way through the browser.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

export class FileProvider {
  // It registers itself as this: a public client, which comes back to any port of this machine.
  clientMetadata = {
    client_name: 'notes on the command line',
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };

  static async open(file) {
    const provider = new FileProvider();
    provider.file = file;
    try {
      provider.kept = JSON.parse(readFileSync(file, 'utf8'));
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
      provider.kept = {};
    }
    provider.callback = createServer((req, res) => provider.answer(new URL(req.url, provider.redirectUrl), res));
    await new Promise((resolve) => provider.callback.listen(0, '127.0.0.1', resolve));
    provider.redirectUrl = `http://127.0.0.1:${provider.callback.address().port}/callback`;
    provider.code = new Promise((resolve, reject) => Object.assign(provider, { resolve, reject }));
    provider.code.catch(() => {}); // nobody may wait for it yet
    return provider;
  }

  // The file is replaced at once: nobody reads half of it.
  keep(what) {
    this.kept = { ...this.kept, ...what };
    writeFileSync(`${this.file}.new`, JSON.stringify(this.kept), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }

  clientInformation() { return this.kept.client; }
  saveClientInformation(client) { this.keep({ client }); }
  tokens() { return this.kept.tokens; }
  saveTokens(tokens) { this.keep({ tokens }); }
  codeVerifier() { return this.verifier; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  discoveryState() { return this.discovery; }
  saveDiscoveryState(discovery) { this.discovery = discovery; }
  state() { return (this.expected = randomUUID()); }

  // The server knows the client, or its tokens, no more.
  invalidateCredentials(scope) {
    if (scope === 'all' || scope === 'client') this.keep({ client: undefined });
    if (scope === 'all' || scope === 'tokens') this.keep({ tokens: undefined });
  }

  redirectToAuthorization(url) {
    console.error(`Log in with your browser. If none opens, open this yourself:\n${url}`);
    const open = { darwin: 'open', win32: 'explorer' }[process.platform] ?? 'xdg-open';
    spawn(process.env.BROWSER || open, [String(url)], { stdio: 'ignore' }).on('error', () => {});
  }

  // The browser comes back, from the server that it was sent to (RFC 9207), and with what it was sent with.
  answer(url, res) {
    const query = url.searchParams;
    const { issuer } = this.discovery?.authorizationServerMetadata ?? {};
    if (url.pathname !== '/callback' || !this.expected || query.get('state') !== this.expected || query.get('iss') !== issuer) {
      return res.writeHead(400).end('This is not the answer that the program waits for.\n');
    }
    res.writeHead(200, { Connection: 'close' }).end('Back to the terminal: you can close this window.\n');
    if (query.has('code')) this.resolve(query.get('code'));
    else this.reject(new Error(`${query.get('error')}: ${query.get('error_description')}`));
  }

  close() { this.callback.close(); }
}
