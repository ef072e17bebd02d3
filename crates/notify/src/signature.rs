//! The signature of a webhook's body.
use std::fmt::Write as _;

use ring::{digest, hmac};

/// The header that carries it.
pub(crate) const HEADER: &str = "x-paramedic-signature";

/// `sha256=` and the HMAC-SHA256 of `body` in hexadecimal digits.
pub(crate) fn of(key: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    format!("sha256={}", hex(hmac::sign(&key, body).as_ref()))
}

/// The SHA-256 of texts, each ended by a zero byte, as 64 hexadecimal digits.
pub(crate) fn digest(texts: &[&str]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in texts {
        context.update(text.as_bytes());
        context.update(&[0]);
    }
    hex(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_vector_of_rfc_4231_is_signed_as_printed_there() {
        assert_eq!(
            of("Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn digests_keep_texts_apart() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["a"]).len(), 64);
    }
}
