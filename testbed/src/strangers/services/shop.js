// A small shop in Express, with a health report of its own.
const express = require('express');
const fs = require('fs');
const http = require('http');
const path = require('path');

const file = path.join(process.env.STRANGER, 'fault');
const born = Date.now();
let errors = 0;
let asked = 0;

// As in fault.py: one KEY=VALUE a line, and `once` for what a restart cures.
function fault() {
  let text, written;
  try {
    written = fs.statSync(file).mtimeMs;
    text = fs.readFileSync(file, 'utf8');
  } catch { return {}; }
  const lines = text.split(/\s+/);
  if (lines.includes('once') && written < born) return {};
  return Object.fromEntries(lines.filter((l) => l.includes('=')).map((l) => l.split('=', 2)));
}

// The file, or what stands for it where there is none.
function read(name, otherwise) {
  try {
    return fs.readFileSync(path.join(process.env.STRANGER, name), 'utf8');
  } catch { return otherwise; }
}

// Whether the fault strikes this request.
const strikes = (now) => Math.random() < Number(now.share ?? 1);

// Read once, as they are by most apps.
const config = JSON.parse(read('config.json', '{"currency":{"name":"EUR"}}'));
const kept = read('credential', 'first');

const app = express();
app.use((request, response, next) => {
  const now = fault();
  if (now.app === 'blocked') for (;;) ; // a loop without end: nothing else runs any more
  if (now.app === 'maintenance') return response.status(503).set('Retry-After', '120').send('back soon');
  if (now.app === 'warming-up' && Date.now() - born < 12000) return setTimeout(next, 300);
  next();
});
app.get('/', (request, response) => {
  const now = fault();
  asked += 1;
  if (kept !== read('credential', 'first') || kept === 'expired') {
    errors += 1;
    return response.status(500).json({ error: 'the credential is not accepted' });
  }
  if (now.data === 'cut' && asked % 2 === 0) return request.socket.destroy();
  if (now.data === 'poison' && strikes(now)) {
    errors += 1;
    return response.status(500).json({ error: 'the cache holds nonsense' });
  }
  if (now.data === 'pool' && asked % 3 === 0) return; // no connection left: never answered
  response.json({ sold: 1, currency: config.currency.name });
});
// Without a limit of time, as is easily forgotten, it waits as long as the service behind.
app.get('/prices', (request, response) => {
  const give = (status) => {
    if (status === 500) errors += 1;
    if (!response.headersSent) response.status(status).json({ price: 3 });
  };
  // Turned away, for its credential.
  const given = { 200: 200, 401: 500 };
  const asking = http.get(process.env.UPSTREAM, (answer) => {
    answer.resume();
    answer.on('end', () => give(given[answer.statusCode] ?? 502));
  });
  asking.on('error', () => give(502));
  if (fault().limit !== 'none') asking.setTimeout(1500, () => { give(504); asking.destroy(); });
});
app.get('/health', (request, response) => {
  response.json({
    status: errors > 50 ? 'degraded' : 'healthy', cpu_usage: 8.5, memory_usage: 21.0,
    error_count: errors, uptime: process.uptime(),
  });
});
app.listen(Number(process.argv[2]), '127.0.0.1');
