//! A name server of an episode: knows every name as this machine, until it no longer answers.
use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};

use crate::stage::traffic::Traffic;

/// A running one; it ends when dropped.
pub(super) struct Resolver {
    pub(super) address: Ipv4Addr,
    gone: Arc<AtomicBool>,
    _serving: Traffic,
}

/// Programs ask at this port and no other.
const PORT: u16 = 53;
const PAUSE: Duration = Duration::from_millis(50);
/// A head, and the end of a question: an empty name, its type and its class.
const HEAD: usize = 12;
const END: usize = 5;
/// The type of an address, and the reply "one answer for one question, none of the rest".
const A: [u8; 2] = [0, 1];

impl Resolver {
    /// At an address of this machine that no other has.
    pub(super) fn start() -> Result<Self> {
        let mut addresses = (1..=254).map(|n| Ipv4Addr::new(127, 77, 0, n));
        let socket = addresses.find_map(|address| UdpSocket::bind((address, PORT)).ok());
        let socket = socket.context("port 53 is taken at all of 127.77.0.1 to 127.77.0.254")?;
        socket.set_read_timeout(Some(PAUSE))?;
        let address = match socket.local_addr()? {
            std::net::SocketAddr::V4(address) => *address.ip(),
            std::net::SocketAddr::V6(_) => Ipv4Addr::LOCALHOST,
        };
        let gone = Arc::new(AtomicBool::new(false));
        let serving = Traffic::start(Duration::ZERO, {
            let gone = Arc::clone(&gone);
            move || serve(&socket, &gone)
        });
        Ok(Self { address, gone, _serving: serving })
    }

    /// From now on it takes questions and does not answer.
    pub(super) fn vanish(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// Answers one question, if one comes before the pause is over.
fn serve(socket: &UdpSocket, gone: &AtomicBool) {
    let mut question = [0; 512];
    let Ok((length, from)) = socket.recv_from(&mut question) else { return };
    if gone.load(Ordering::Relaxed) {
        return;
    }
    if let Some(answer) = question.get(..length).and_then(answer) {
        // Who asked may be gone.
        let _ = socket.send_to(&answer, from);
    }
}

/// This machine's address for any name, and no address of IPv6.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name = question.get(HEAD..)?.iter().position(|&byte| byte == 0)?;
    let asked = question.get(HEAD..HEAD + name + END)?;
    let wants_address = asked.get(name + 1..name + 3)? == A;
    let mut answer = question.get(..2)?.to_vec();
    // A response, with recursion; one question, no authorities, nothing additional.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_address), 0, 0, 0, 0]);
    answer.extend(asked);
    if wants_address {
        // The name above, an address of the Internet, not to be kept, four bytes.
        answer.extend([0xc0, HEAD as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(kind: u8) -> Vec<u8> {
        [&[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1][..], b"\x06prices\x04shop\x00", &[0, kind, 0, 1, 99]]
            .concat()
    }

    #[test]
    fn a_name_is_this_machine_and_has_no_other_address() {
        let found = answer(&question(1)).unwrap();
        assert_eq!(found[..8], [7, 9, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(found[found.len() - 6..], [0, 4, 127, 0, 0, 1]);
        let none = answer(&question(28)).unwrap();
        assert_eq!(none[6..8], [0, 0]);
        assert!(none.ends_with(b"\x00\x00\x1c\x00\x01"), "{none:?}");
    }

    #[test]
    fn half_a_question_has_no_answer() {
        let whole = question(1);
        for length in 0..whole.len() - 1 {
            assert_eq!(answer(&whole[..length]), None, "{length}");
        }
    }
}
