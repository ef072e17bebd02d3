// The statuses, bodies and echo of the cases: in Express, or (`app.js PORT http2`) with Node's HTTP/2.
const lure = 'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n';
const big = Buffer.alloc(1000000, 'x');

function answer(request, response) {
  const path = request.url;
  if (path === '/big') return response.end(big);
  if (path === '/lure') {
    let left = 40;
    const next = () => (left-- ? response.write(lure, () => setImmediate(next)) : response.end());
    return next();
  }
  if (path === '/echo') {
    request.on('data', () => {});
    return request.on('end', () => response.end('ok\n'));
  }
  response.statusCode = Number(path.split('/')[2]);
  response.end([204, 304].includes(response.statusCode) ? undefined : 'ok\n');
}

const [, , port, kind] = process.argv;
if (kind === 'http2') {
  require('http2').createServer(answer).listen(Number(port), '127.0.0.1');
} else {
  const app = require('express')();
  app.use(answer);
  app.listen(Number(port), '127.0.0.1');
}
