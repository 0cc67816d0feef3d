// A running Signet, the program as it is released, with an embedded database, a client and a user.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const username = 'ann';
export const password = 'correct horse battery';
export const audience = 'https://api.example.com';
export const other = 'https://other.example.com'; // another audience of the same client
export const secret = 'a secret of 32 bytes or more, which they share'; // of HS256

const patience = 30_000;

const program = () => {
  assert.ok(process.env.SIGNET_BIN, 'SIGNET_BIN is not set; run make interop');
  return resolve(process.env.SIGNET_BIN);
};

const freePort = () =>
  new Promise((done, failed) => {
    const server = createServer();
    server.once('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

export class Signet {
  // Runs the test with a server that signs with the algorithm, and has more settings.
  static async with(algorithm, test, settings) {
    const s = new Signet();
    s.settings = settings;
    s.dir = await mkdtemp(join(tmpdir(), 'signet-interop-'));
    try {
      await s.start(algorithm);
      await test(s);
    } catch (err) {
      const log = await readFile(join(s.dir, 'log'), 'utf8').catch(() => '');
      console.error(`the end of the server's log:\n${log.split('\n').slice(-20).join('\n')}`);
      throw err;
    } finally {
      await s.stop();
      await rm(s.dir, { recursive: true, force: true });
    }
  }

  async start(algorithm) {
    const port = await freePort();
    this.issuer = `http://127.0.0.1:${port}`;
    this.env = {
      PATH: process.env.PATH,
      HOME: this.dir,
      SIGNET_ISSUER: this.issuer,
      SIGNET_LISTEN: `127.0.0.1:${port}`,
      SIGNET_MANAGEMENT_LISTEN: '',
      SIGNET_DRAIN_DELAY: '0',
      SIGNET_SIGNING_ALG: algorithm,
      ...this.settings,
      ...(algorithm === 'HS256' && { SIGNET_SIGNING_SECRET: secret }),
    };
    this.client = JSON.parse(
      await this.run('', 'client', 'create', '--name', 'App', '--scope', 'read write', '--audience', audience, '--audience', other,
        '--grant', 'password', '--grant', 'refresh_token', '--grant', 'client_credentials', '-o', 'json'),
    );
    await this.run(password, 'user', 'create', username, '--password-stdin');

    // A server whose tokens live for a second goes before the one that is tested, on the same database.
    await this.serve({ SIGNET_ACCESS_TOKEN_TTL: '1s' });
    this.expired = await this.login(audience);
    await this.stop();
    await this.serve();
  }

  // Runs a command of the command line.
  run(stdin, ...args) {
    return new Promise((done, failed) => {
      const child = execFile(program(), args, { cwd: this.dir, env: this.env }, (err, stdout, stderr) =>
        err ? failed(new Error(`signet ${args.join(' ')}: ${stderr}`)) : done(stdout));
      child.stdin.end(stdin);
    });
  }

  // Registers a client.
  async register(...args) {
    return JSON.parse(await this.run('', 'client', 'create', '-o', 'json', ...args));
  }

  async serve(env) {
    this.process = spawn(program(), ['serve'], { cwd: this.dir, env: { ...this.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(join(this.dir, 'log'));
    this.process.stdout.pipe(log, { end: false });
    this.process.stderr.pipe(log);
    this.exited = new Promise((done) => this.process.once('exit', done));
    for (const deadline = Date.now() + patience; ; await sleep(20)) {
      const ready = await fetch(`${this.issuer}/readyz`).catch(() => undefined);
      await ready?.arrayBuffer();
      if (ready?.ok) return;
      assert.ok(this.process.exitCode === null && Date.now() < deadline, 'the server does not become ready');
    }
  }

  async stop() {
    if (!this.process) return;
    this.process.kill('SIGKILL'); // of a process that has ended, it does nothing
    await this.exited;
  }

  async post(path, form) {
    const res = await fetch(this.issuer + path, {
      method: 'POST',
      headers: { authorization: 'Basic ' + btoa(`${this.client.client_id}:${this.client.client_secret}`) },
      body: new URLSearchParams(form),
    });
    const body = await res.json();
    assert.equal(res.status, 200, `${path}: ${JSON.stringify(body)}`);
    return body;
  }

  // Returns an access token of the user for the resource, '' for all of the client's audiences.
  async login(resource) {
    return (await this.post('/token', { grant_type: 'password', username, password, resource })).access_token;
  }

  async active(token) {
    return (await this.post('/introspect', { token })).active;
  }

  // Makes the next signing key current, and returns the first token of the user that is signed with it.
  async rotate() {
    // A token of the client costs less than a login, and the server is asked often.
    const signedWith = async () => header((await this.post('/token', { grant_type: 'client_credentials' })).access_token).kid;
    const before = await signedWith();
    await this.run('', 'key', 'rotate');
    for (const deadline = Date.now() + patience; (await signedWith()) === before; await sleep(200)) {
      assert.ok(Date.now() < deadline, 'the server does not follow the rotation');
    }
    return this.login(audience);
  }
}

const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'));
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
export const header = (token) => decode(token.split('.')[0]);
export const claims = (token) => decode(token.split('.')[1]);

// The token with a wider scope and the old signature.
export const tampered = (token) => {
  const [head, , signature] = token.split('.');
  return [head, encode({ ...claims(token), scope: 'read write admin' }), signature].join('.');
};

// The token without a signature, and an algorithm that says so.
export const unsigned = (token) => [encode({ ...header(token), alg: 'none' }), token.split('.')[1], ''].join('.');

// Names the algorithm that is asked for, but has neither a key's id nor a signature.
export const anonymous = (algorithm) => [encode({ alg: algorithm, typ: 'at+jwt' }), encode({}), ''].join('.');
