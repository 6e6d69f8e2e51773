// The server's interface, /v1: one function a route, errors as one sentence.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The server did not answer at all.
export class Gone extends Error {}

export async function ask(method, path, body, headers = {}) {
  const isJson = body !== undefined && !(body instanceof Blob);
  let reply;
  try {
    reply = await fetch(path, {
      method,
      headers: { ...(isJson ? { "content-type": "application/json" } : body ? { "content-type": "application/octet-stream" } : {}), ...headers },
      body: isJson ? JSON.stringify(body) : body,
    });
  } catch {
    throw new Gone("the server does not answer");
  }
  const said = await reply.json().catch(() => ({}));
  if (reply.ok) return said;
  if (reply.status === 401) throw new Refused("this window has no key: open the address that `darkroom serve` printed", 401);
  throw new Refused(said.error?.message || `the server answers with ${reply.status}`, reply.status);
}

const listed = async (path) => (await ask("GET", path)).data;

export const schema = () => ask("GET", "/v1/schema");
export const models = () => listed("/v1/models");
export const names = (kind) => listed(`/v1/${kind}`);
export const controls = () => ask("GET", "/v1/controls");
export const jobs = (states) => listed(`/v1/jobs?limit=500&state=${states}`);
export const pictures = (before, limit = 60) => listed(`/v1/pictures?limit=${limit}${before ? `&before=${before}` : ""}`);
export const pictureRequest = (id) => ask("GET", `/v1/pictures/${id}/request`);
export const queue = () => ask("GET", "/v1/queue");
export const pause = (paused) => ask("POST", "/v1/queue", { paused });
export const submit = (job, key) => ask("POST", "/v1/jobs", job, { "idempotency-key": key });
export const cancel = (id) => ask("DELETE", `/v1/jobs/${id}`);
export const move = (id, before) => ask("POST", `/v1/jobs/${id}/move`, { before });
export const upload = (blob) => ask("POST", "/v1/uploads", blob);
export const uploadUrl = (id) => `/v1/uploads/${id}`;

export const newKey = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16)).join("");
