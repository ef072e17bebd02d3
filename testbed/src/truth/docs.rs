//! `docs/protocols.md`, written from the list of cases. It is committed: if it no longer matches a run
//! in which every case was right, the task rewrites it and fails once.
use std::{fmt::Write as _, path::Path};

use anyhow::{Result, bail};
use xtask::workspace::write_if_changed;

use super::case::{Case, Protocol, Row};

const INTRODUCTION: &str = "\
# Protocols

How exact are the kernel's counts of HTTP? `cargo xtask truth` wrote this page: it starts third-party servers, asks
them as their clients would, and compares the kernel's counts with what the clients were given: requests, responses by
class, 502, 503 and 504, faults of gRPC, and what a proxy asked its backend. In all cases of the table below but `mid`
and `fails` each count is exact.

## What the kernel sees

- **HTTP/1.0 and HTTP/1.1** in plaintext: requests, and responses by class, also if they are pipelined, in pieces, or
  have bodies that look like responses. Interim responses (100, 103) are counted as 1xx.
- **HTTP/2** in plaintext, by prior knowledge or by `Upgrade: h2c`: requests, and responses by their `:status`.
- **gRPC**: `grpc-status` counts, too. UNKNOWN (2), UNIMPLEMENTED (12), INTERNAL (13) and DATA_LOSS (15) are faults of
  the server, like a 500. DEADLINE_EXCEEDED (4) and UNAVAILABLE (14) count like 504 and 503. The other codes are no
  faults.
- **The target as a client**: its requests to backends in these protocols, and their responses.

## What it does not see

- **TLS.** Resets, retransmits, throttling and OOM kills of such a target are seen, its HTTP is not: `paramedic explain`
  says `not seen`. A target can [opt in](deployment.md#responses-in-tls) to having its responses counted.
- **HTTP/3 (QUIC)**, which is encrypted and not TCP.
- **WebSocket** and other protocols after an upgrade: the 101 is counted, nothing behind it.
- Packets with **IPv6 extension headers**.
- Pipelined requests behind the first one, if they are in the **first packet** of a connection to a listening socket
  with TCP_DEFER_ACCEPT (Apache httpd): the kernel side sees that packet before there is a connection.

## What cannot be told

Two numbers say how much of a target's HTTP could not be read (`paramedic_target_http_unreadable_total` in
[metrics.md](metrics.md)). It is never guessed into a class.

- **unknown**: a response whose status, or whose code of gRPC, was abbreviated to a reference to what the connection
  said before the kernel began to watch it. That ends with the connection. nginx and HAProxy do not abbreviate them.
  A response that is not abbreviated is known. grpcio, also behind nginx and HAProxy, sends the name `grpc-status` in
  full: the agent counts its failed calls as faults, also if it started when all calls were well and the connection is
  older than the agent (case `fails`). `@grpc/grpc-js` abbreviates the name: its codes are unknown until the connection
  ends. gRPC's `MAX_CONNECTION_AGE` ends it.
- **not understood**: no message was found where one should begin, or a packet was not followed to its end, for example
  after lost packets.

## Servers

";

/// Compares the page with a run of all cases.
pub(super) fn check(root: &Path, rows: &[Row]) -> Result<()> {
    let page = root.join("docs/protocols.md");
    if write_if_changed(&page, write(rows).as_bytes())? {
        bail!("{} did not match this run and was rewritten: read and commit it", page.display());
    }
    Ok(())
}

fn write(rows: &[Row]) -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "| server | protocol | right in these cases |\n|---|---|---|\n";
    let of_one = |one: &Row, next: &Row| {
        one.server.name == next.server.name && one.protocol == next.protocol
    };
    for rows in rows.chunk_by(of_one) {
        let Some(Row { server, protocol, .. }) = rows.first() else { continue };
        let cases: Vec<&str> = rows.iter().map(|row| row.case.name()).collect();
        let _ = writeln!(page, "| {} | {} | {} |", server.title, protocol.name(), cases.join(", "));
    }
    page += "\nServers behind a proxy are not compared themselves. A case is missing where a server does \
             not have what\nit asks for: PHP's own server, for example, closes each connection, and only \
             some can upgrade.\n\n";
    page += "| case | what is asked |\n|---|---|\n";
    for case in Case::ALL {
        let protocols = Protocol::ALL.into_iter().filter(|&protocol| {
            rows.iter().any(|row| row.case == case && row.protocol == protocol)
        });
        let protocols: Vec<&str> = protocols.map(Protocol::name).collect();
        let _ = writeln!(page, "| {} ({}) | {} |", case.name(), protocols.join(", "), case.about());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::servers;

    #[test]
    fn the_committed_page_is_of_these_cases() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocols.md");
        let page = std::fs::read_to_string(page).unwrap();
        assert_eq!(page, write(&servers::all()), "run `cargo xtask truth`");
    }
}
