// A small shop in Express, with a health report of its own.
const express = require('express');
const fs = require('fs');
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

const app = express();
app.use((request, response, next) => {
  const now = fault();
  if (now.app === 'blocked') for (;;) ; // a loop without end: nothing else runs any more
  if (now.app === 'maintenance') return response.status(503).set('Retry-After', '120').send('back soon');
  next();
});
app.get('/', (request, response) => {
  const now = fault();
  asked += 1;
  if (now.data === 'poison') {
    errors += 1;
    return response.status(500).json({ error: 'the cache holds nonsense' });
  }
  if (now.data === 'pool' && asked % 3 === 0) return; // no connection left: never answered
  response.json({ sold: 1 });
});
app.get('/health', (request, response) => {
  response.json({
    status: errors > 50 ? 'degraded' : 'healthy', cpu_usage: 8.5, memory_usage: 21.0,
    error_count: errors, uptime: process.uptime(),
  });
});
app.listen(Number(process.argv[2]), '127.0.0.1');
