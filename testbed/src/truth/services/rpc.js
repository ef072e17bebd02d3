// gRPC: a call's message is the code that it asks for.
const grpc = require('@grpc/grpc-js');

const same = (value) => value;
const method = (name, streams) => ({
  path: `/truth.Truth/${name}`, requestStream: false, responseStream: streams,
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const server = new grpc.Server();
server.addService({ Unary: method('Unary', false), Stream: method('Stream', true) }, {
  Unary(call, callback) {
    const code = call.request[0];
    if (code) callback({ code, details: 'as asked' });
    else callback(null, Buffer.from('ok'));
  },
  Stream(call) {
    const code = call.request[0];
    for (let n = 0; n < 3; n += 1) call.write(Buffer.from('ok'));
    if (code) call.emit('error', { code, details: 'as asked' });
    else call.end();
  },
});
server.bindAsync(`127.0.0.1:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
