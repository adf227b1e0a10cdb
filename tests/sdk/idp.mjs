// The identity provider of the end-to-end tests: the real `oidc-provider`, JWT access tokens whose
// audience is the `resource` asked for (RFC 8707). Clients that it knows get them by client credentials;
// with a `person` in the plan, others register themselves and get them by an authorization code with
// PKCE: whoever is sent here is that person, logged in and of the same mind.
//
// argv[2] is a JSON plan: { port, resources: [url], clients: [{id, secret, groups, alg, ttl_s}],
// person: {id, groups, alg, ttl_s} }. It prints `ready ISSUER` when it listens, and a line `NAME JSON`
// for each registration, authorization and token. It holds no state worth keeping.
import { exportJWK, generateKeyPair } from 'jose';
import { Provider, errors } from 'oidc-provider';
import { createServer } from 'node:http';

const plan = JSON.parse(process.argv[2]);
const byId = new Map(plan.clients.map((client) => [client.id, client]));
const person = plan.person;

async function signingKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `key-${alg.toLowerCase()}` };
}

const server = createServer();
await new Promise((done) => server.listen(plan.port, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: plan.clients.map((client) => ({
    client_id: client.id,
    client_secret: client.secret,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: client.auth ?? 'client_secret_basic',
  })),
  jwks: { keys: [await signingKey('RS256'), await signingKey('ES256')] },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  // What is asked for is granted.
  async loadExistingGrant(ctx) {
    const { client, session, params } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope(params.scope ?? '');
    for (const resource of plan.resources) grant.addResourceScope(resource, params.scope ?? '');
    await grant.save();
    return grant;
  },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: person !== undefined },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // Asking without a `resource` yields a token for the first one, as a default API would.
      defaultResource: () => plan.resources[0],
      getResourceServerInfo(ctx, resource, client) {
        if (!plan.resources.includes(resource)) throw new errors.InvalidTarget();
        const { alg, ttl_s } = byId.get(client.clientId) ?? person;
        return {
          scope: '',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: ttl_s ?? 3600,
          jwt: { sign: { alg } },
        };
      },
    },
  },
  extraTokenClaims: (ctx, token) => ({ groups: (byId.get(token.clientId) ?? person)?.groups ?? [] }),
});
provider.on('server_error', (ctx, error) => console.error('server_error', error));
provider.on('grant.error', (ctx, error) => console.error('grant.error', error.message));
provider.on('registration_create.success', (ctx, client) => {
  console.log('registered', JSON.stringify({ client: client.clientId, name: client.clientName }));
});
provider.on('authorization.accepted', (ctx) => {
  const { client_id: client, code_challenge_method: challenge, resource } = ctx.oidc.params;
  console.log('authorized', JSON.stringify({ client, challenge, resource }));
});
provider.on('grant.success', (ctx) => {
  const { grant_type: grant, resource } = ctx.oidc.params;
  console.log('granted', JSON.stringify({ client: ctx.oidc.client.clientId, grant, resource, verified: Boolean(ctx.oidc.params.code_verifier) }));
});
const answer = provider.callback();
server.on('request', async (ask, reply) => {
  if (!person || !ask.url.startsWith('/interaction/')) return answer(ask, reply);
  // The person logs in, and agrees.
  const { prompt } = await provider.interactionDetails(ask, reply);
  const result = prompt.name === 'login' ? { login: { accountId: person.id } } : { consent: {} };
  return provider.interactionFinished(ask, reply, result);
});
console.log(`ready ${issuer}`);
