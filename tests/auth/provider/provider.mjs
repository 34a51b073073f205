// An OAuth provider for the tests: oidc-provider with refresh-token rotation, whose reuse kills the grant.
// Prints its issuer, then serves until it is killed. Beside the provider's own routes:
//   POST /mint         a grant with a refresh token, as JSON
//   GET  /stats        what happened: refreshed, reused
//   POST /outage?on=1  every token request is answered with status 503 from here on; on=0 ends it
//   POST /delay?ms=N   an answer to a token request waits so long, after the provider has done its part
import http from 'node:http';
import Provider from 'oidc-provider';

const kept = new Map();
class Memory {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) { kept.set(this.key(id), payload); }
  async find(id) { return kept.get(this.key(id)); }
  async findByUid(uid) { return [...kept.values()].find((p) => p.uid === uid); }
  async findByUserCode(code) { return [...kept.values()].find((p) => p.userCode === code); }
  async consume(id) { kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { kept.delete(this.key(id)); }
  async revokeByGrantId(grantId) {
    for (const [key, p] of kept) if (p.grantId === grantId) kept.delete(key);
  }
}

const stats = { refreshed: 0, reused: 0, revoked: 0 };
let outage = false;
let delay = 0;
const server = http.createServer();
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    adapter: Memory,
    clients: [
      {
        client_id: 'cid',
        client_secret: 'client secret/CANARY',
        application_type: 'native',
        grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
        redirect_uris: ['http://127.0.0.1/callback'],
      },
    ],
    scopes: ['openid', 'offline_access', 'api:read'],
    cookies: { keys: ['test'] },
    rotateRefreshToken: true,
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
    },
    findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    ttl: { AccessToken: 3600, RefreshToken: 86400, Grant: 86400, Interaction: 600, Session: 600 },
  });
  provider.on('grant.success', (ctx) => {
    if (ctx.oidc.params.grant_type === 'refresh_token') stats.refreshed += 1;
  });
  provider.on('grant.error', (ctx, error) => {
    if (/already used/.test(error.error_detail ?? '')) stats.reused += 1;
  });
  provider.on('grant.revoked', () => { stats.revoked += 1; });
  provider.use(async (ctx, next) => {
    if (ctx.path === '/stats') { ctx.body = stats; return; }
    if (ctx.path === '/outage') { outage = ctx.query.on === '1'; ctx.body = {}; return; }
    if (outage && ctx.path === '/token') { ctx.status = 503; ctx.set('retry-after', '1'); ctx.body = 'down'; return; }
    if (ctx.path === '/delay') { delay = Number(ctx.query.ms); ctx.body = {}; return; }
    if (ctx.path === '/mint') {
      const client = await provider.Client.find('cid');
      const grant = new provider.Grant({ accountId: 'ana', clientId: 'cid' });
      grant.addOIDCScope('openid offline_access');
      const grantId = await grant.save();
      const token = new provider.RefreshToken({
        accountId: 'ana', client, grantId, scope: 'openid offline_access', gty: 'authorization_code',
        rotations: 0, iiat: Math.floor(Date.now() / 1000),
      });
      ctx.body = { refresh_token: await token.save() };
      return;
    }
    if (ctx.path.startsWith('/interaction/')) {
      // The person who always says yes.
      const { prompt, params, session } = await provider.interactionDetails(ctx.req, ctx.res);
      if (prompt.name === 'login') {
        await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'ana' } });
      } else {
        const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
        grant.addOIDCScope(params.scope ?? 'openid offline_access');
        await provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId: await grant.save() } });
      }
      ctx.respond = false;
      return;
    }
    await next();
    if (delay && ctx.path === '/token') await new Promise((done) => setTimeout(done, delay * (1 + Math.random()) / 2));
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
