//! gRPC servers, by hand in Python: the agent recognises them, and its calls are nobody's traffic.
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::{
    agent::{Agent, Directory, until},
    servers::Server,
};

/// A server of HTTP/2 alone. Calls of `/shop` get `OK`; what any other call gets replaces `ANSWER`,
/// like the body of a health check.
const SERVER: &str = r#"
import socket, struct, threading, time
def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
def field(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value
KIND = field(b"content-type", b"application/grpc")
def head(s): return frame(1, 4, s, b"\x88" + KIND)
def message(s, m): return frame(0, 0, s, struct.pack(">BI", 0, len(m)) + m)
def trailers(s, code): return frame(1, 5, s, field(b"grpc-status", code))
def alone(s, code): return frame(1, 5, s, b"\x88" + KIND + field(b"grpc-status", code))
def serve(c):
    c.sendall(frame(4, 0, 0, b""))
    f = c.makefile("rb")
    if f.read(24) != b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
        return c.close()
    while True:
        top = f.read(9)
        if len(top) < 9:
            return c.close()
        payload = f.read(int.from_bytes(top[:3], "big"))
        s = int.from_bytes(top[5:], "big")
        if top[3] == 4 and not top[4] & 1:
            c.sendall(frame(4, 1, 0, b""))
        if top[3] == 1:
            if b"/shop" in payload:
                c.sendall(head(s) + message(s, b"sold") + trailers(s, b"0"))
            else:
                ANSWER
def quiet(c):
    try: serve(c)
    except OSError: pass
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
while True:
    threading.Thread(target=quiet, args=(listener.accept()[0],), daemon=True).start()
"#;

fn server(answer: &str) -> Server {
    Server::python(&SERVER.replace("ANSWER", answer))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Calls `/shop` this often, over one connection, and reads each answer.
fn call(address: SocketAddr, times: u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).unwrap();
    // POST, http, `/shop` in plain text.
    let request = [&[0x83, 0x86, 4, 5][..], b"/shop"].concat();
    for n in 0..times {
        let id = 2 * n + 1;
        stream.write_all(&frame(1, 5, id, &request)).unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).unwrap();
            // The end of the stream.
            if head[3] == 1 && head[4] & 1 == 1 {
                break;
            }
        }
    }
}

const CALLS: u32 = 30;
const RATE: f64 = 3.0;

/// The kernel counts `UNIMPLEMENTED` as a fault, of the agent's calls too: they are subtracted.
fn own_calls_are_no_errors(answer: &str, result: &str) {
    let state = Directory::new();
    let server = server(answer);
    let agent = Agent::watch(&[&server.url], &state, &["--max-remedy", "restart"]);
    let polls = format!("paramedic_health_polls_total{{result=\"{result}\"}}");
    agent.reaches(&polls, 3.0);
    call(server.address, CALLS);
    let mut most = 0.0_f64;
    until("all calls are counted", || {
        most = most.max(agent.feature("http_request_rate"));
        assert_eq!(agent.feature("http_5xx_rate"), 0.0, "its own calls are no errors");
        (most >= RATE).then_some(())
    });
    assert!((RATE..RATE + 0.3).contains(&most), "{most}: its own calls are no traffic");
    until("the calls leave the window", || {
        assert_eq!(agent.feature("http_5xx_rate"), 0.0, "its own calls are no errors");
        (agent.feature("http_request_rate") == 0.0).then_some(())
    });
    assert_eq!(agent.feature("health_failures"), 0.0);
    assert_eq!(agent.feature("tcp_reset_rate"), 0.0);
    assert_eq!(agent.target()["decision"]["action"], "no_action");
    agent.healed_nothing();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn calls_to_a_server_without_health_service_are_no_errors() {
    own_calls_are_no_errors(r#"c.sendall(alone(s, b"12"))"#, "not_found");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn calls_that_fail_in_their_trailers_are_no_errors() {
    own_calls_are_no_errors(r#"c.sendall(head(s) + trailers(s, b"12"))"#, "not_found");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn calls_that_are_answered_well_are_no_traffic() {
    let serving = r#"c.sendall(head(s) + message(s, b"\x08\x01") + trailers(s, b"0"))"#;
    own_calls_are_no_errors(serving, "well");
}
