//! Decodes the bytes of a body into text.
use std::io::Read;

use flate2::read::GzDecoder;
use http::header::{self, HeaderMap};

use super::{HealthError, error::Packed, parse::NotJson};
use crate::health::BODY_LIMIT;

/// Some languages write it first.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The declared type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `text/plain`
    Plain,
    /// `application/health+json`
    Health,
    /// Any other type, or none.
    Other,
}

impl Kind {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Self::Other };
        let kind = value.to_str().unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("text/plain") {
            Self::Plain
        } else if kind.eq_ignore_ascii_case("application/health+json") {
            Self::Health
        } else {
            Self::Other
        }
    }
}

/// The text, decompressed and trimmed.
pub(super) fn text(headers: &HeaderMap, body: &[u8]) -> Result<String, HealthError> {
    // Empty is empty in every encoding; 204 and 304 have no body to encode.
    let unpacked =
        if is_gzip(headers)? && !body.is_empty() { unpack(body)? } else { body.to_vec() };
    let text = String::from_utf8(unpacked).map_err(|_| NotJson::NotUtf8)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    Ok(text.trim().to_owned())
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Packed> {
    let mut all = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let Some(first) = all.next() else { return Ok(false) };
    match first.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
        _ if all.next().is_some() => Err(Packed::Unknown),
        b"" | b"identity" => Ok(false),
        b"gzip" | b"x-gzip" => Ok(true),
        _ => Err(Packed::Unknown),
    }
}

/// Never more than the limit: 64 KiB of gzip may hold 64 MiB.
fn unpack(body: &[u8]) -> Result<Vec<u8>, Packed> {
    let mut unpacked = Vec::new();
    let most = BODY_LIMIT as u64 + 1;
    GzDecoder::new(body).take(most).read_to_end(&mut unpacked).map_err(|_| Packed::Broken)?;
    if unpacked.len() > BODY_LIMIT { Err(Packed::TooLarge) } else { Ok(unpacked) }
}
