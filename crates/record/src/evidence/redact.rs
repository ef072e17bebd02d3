//! Replaces what looks like a secret in the texts of others.
//!
//! Best effort: it knows the usual names of secrets and the usual ways to write a value. A secret
//! that a program logs under another name, or across several lines, stays. So evidence is readable
//! by its owner alone, and leaves the node only by a person's hand.
use std::ops::Range;

/// What stands for a secret.
pub const REDACTED: &str = "[redacted]";

/// A name that ends with one of these, or goes on with letters, digits, `_`, `-` and `.`, names a
/// secret.
const NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "authorization",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "credential",
    "cookie",
];
/// Names whose value is the rest of the line: it has spaces.
const OF_LINES: [&str; 2] = ["authorization", "cookie"];
/// Words before a secret within a value.
const SCHEMES: [&str; 3] = ["bearer ", "basic ", "token "];
/// Maximum length of a name after the known part.
const MAX_TAIL: usize = 24;
/// The end of the first line of a private key, and where it begins at the latest.
const KEY: &str = "PRIVATE KEY-----";
const MAX_LABEL: usize = 32;
/// Minimum length of a bearer token, in bytes.
const MIN_TOKEN: usize = 8;
/// Minimum length of a user in a URL, without a password, that is taken for a token, in bytes.
const MIN_USER: usize = 16;

/// The text with [`REDACTED`] in place of the values after names of secrets (`password=…`,
/// `"token": "…"`, `authorization: …`), bearer tokens, passwords in URLs and private keys.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut from = 0;
    for at in 0..text.len() {
        if at < from {
            continue;
        }
        let secret = url(text, at)
            .or_else(|| named(text, at))
            .or_else(|| bearer(text, at))
            .or_else(|| private_key(text, at));
        if let Some(secret) = secret.filter(|secret| secret.start >= from && !secret.is_empty()) {
            redacted.push_str(text.get(from..secret.start).unwrap_or_default());
            redacted.push_str(REDACTED);
            from = secret.end;
        }
    }
    redacted.push_str(text.get(from..).unwrap_or_default());
    redacted
}

fn byte(text: &str, at: usize) -> Option<u8> {
    text.as_bytes().get(at).copied()
}

fn is_at(text: &str, at: usize, word: &str) -> bool {
    let found = text.as_bytes().get(at..at + word.len());
    found.is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

/// The first position from `at` on whose byte is not of this kind.
fn skip(text: &str, at: usize, mut of: impl FnMut(u8) -> bool) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !of(*byte)).unwrap_or(rest.len())
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn end_of_line(text: &str, at: usize) -> usize {
    skip(text, at, |byte| byte != b'\n')
}

/// The value after the name of a secret that begins at `at`.
fn named(text: &str, at: usize) -> Option<Range<usize>> {
    let name = NAMES.iter().find(|name| is_at(text, at, name))?;
    let known = at + name.len();
    let is_tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let end = (known..known + MAX_TAIL).find(|at| !byte(text, *at).is_some_and(is_tail))?;
    let end = skip(text, end, |byte| is_quote(byte) || matches!(byte, b'\\' | b']'));
    let separator = skip(text, end, is_space);
    let next = byte(text, separator + 1);
    match byte(text, separator)? {
        // `token::Kind` is a path of a program.
        b':' if next == Some(b':') => return None,
        b':' | b'=' => {}
        _ => return None,
    }
    let start = skip(text, separator + 1, |byte| is_space(byte) || byte == b'>');
    Some(value(text, start, OF_LINES.contains(name)))
}

/// The value that begins at `start`; its quotes are not part of it.
fn value(text: &str, start: usize, of_line: bool) -> Range<usize> {
    match byte(text, start) {
        Some(b'\\') if byte(text, start + 1).is_some_and(is_quote) => {
            let quote = byte(text, start + 1).unwrap_or_default();
            start + 2..escaped_quote(text, start + 2, quote)
        }
        Some(quote) if is_quote(quote) => start + 1..closing_quote(text, start + 1, quote),
        Some(b'[') => start..closing(text, start, b']'),
        Some(b'{') => start..closing(text, start, b'}'),
        Some(_) if of_line => start..skip(text, start, |b| b != b'\n' && !is_quote(b)),
        _ => start..bare(text, start),
    }
}

/// The end of a quoted value; the end of the line if it does not close.
fn closing_quote(text: &str, from: usize, quote: u8) -> usize {
    let mut escaped = false;
    skip(text, from, |byte| {
        let goes_on = escaped || byte != quote;
        escaped = byte == b'\\' && !escaped;
        goes_on && byte != b'\n'
    })
}

/// The end of a value in escaped quotes: JSON within JSON.
fn escaped_quote(text: &str, from: usize, quote: u8) -> usize {
    let line = end_of_line(text, from);
    let rest = text.as_bytes().get(from..line).unwrap_or_default();
    rest.windows(2).position(|pair| pair == [b'\\', quote]).map_or(line, |at| from + at)
}

/// Behind the bracket that closes, or the end of the line.
fn closing(text: &str, from: usize, bracket: u8) -> usize {
    let at = skip(text, from, |byte| byte != bracket && byte != b'\n');
    if byte(text, at) == Some(bracket) { at + 1 } else { at }
}

/// The end of a value without quotes. A scheme (`Bearer …`) and the next word are one value, and so is
/// what stands in quotes right after a bracket (`Some("…")`).
fn bare(text: &str, start: usize) -> usize {
    let scheme = SCHEMES.iter().find(|scheme| is_at(text, start, scheme));
    let from = start + scheme.map_or(0, |scheme| scheme.len());
    let ends = |byte: u8| {
        byte.is_ascii_whitespace()
            || is_quote(byte)
            || matches!(byte, b',' | b';' | b'&' | b'\\' | b')' | b'}' | b']' | b'<' | b'|')
    };
    let end = skip(text, from, |byte| !ends(byte));
    let quote = byte(text, end).filter(|byte| is_quote(*byte));
    let before = end.checked_sub(1).and_then(|at| byte(text, at));
    match quote {
        // Python's `b'…'` is the other case.
        Some(quote) if before == Some(b'(') || (before == Some(b'b') && end == from + 1) => {
            closing_quote(text, end + 1, quote)
        }
        _ => end,
    }
}

/// A bearer token after that word at `at`.
fn bearer(text: &str, at: usize) -> Option<Range<usize>> {
    let within = at.checked_sub(1).and_then(|before| byte(text, before));
    if within.is_some_and(|byte| byte.is_ascii_alphanumeric()) || !is_at(text, at, "bearer ") {
        return None;
    }
    let start = at + "bearer ".len();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    let end = skip(text, start, is_token);
    (end - start >= MIN_TOKEN).then_some(start..end)
}

/// The password in a URL whose `://` is at `at`; a long user without a password is a token.
fn url(text: &str, at: usize) -> Option<Range<usize>> {
    if !is_at(text, at, "://") {
        return None;
    }
    let start = at + "://".len();
    let ends = |b: u8| {
        b.is_ascii_whitespace() || is_quote(b) || matches!(b, b'/' | b'?' | b'#' | b'<' | b'>')
    };
    let authority = text.get(start..skip(text, start, |byte| !ends(byte)))?;
    let user = authority.get(..authority.rfind('@')?)?;
    match user.find(':') {
        Some(colon) => Some(start + colon + 1..start + user.len()),
        None => (user.len() >= MIN_USER).then_some(start..start + user.len()),
    }
}

/// A private key in PEM, to its end or that of the text.
fn private_key(text: &str, at: usize) -> Option<Range<usize>> {
    if !is_at(text, at, "-----BEGIN ") {
        return None;
    }
    let mut first_line = text.as_bytes().get(at..)?.windows(KEY.len()).take(MAX_LABEL);
    let label = first_line.position(|part| part == KEY.as_bytes())?;
    let start = at + label + KEY.len();
    let rest = text.get(start..)?;
    Some(start..start + rest.find("-----END").unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In each text, `hunter2-hunter2` is the secret, and nothing else may change.
    fn hides(text: &str) {
        assert_eq!(redact(text), text.replace("hunter2-hunter2", REDACTED), "{text}");
    }

    fn keeps(text: &str) {
        assert_eq!(redact(text), text);
    }

    #[test]
    fn values_after_names_of_secrets_are_replaced() {
        for text in [
            "password=hunter2-hunter2",
            "PASSWORD = hunter2-hunter2 tries=3",
            "db.password: hunter2-hunter2",
            "login?user=a&password=hunter2-hunter2&x=1",
            "DB_PASSWORD=hunter2-hunter2;timeout=5",
            "client_secret=hunter2-hunter2, next",
            "secretKey: 'hunter2-hunter2', next",
            "passwd='hunter2-hunter2' x",
            "x-api-key: hunter2-hunter2",
            "AWS_ACCESS_KEY_ID=hunter2-hunter2",
            "token => \"hunter2-hunter2\"",
            "params[password]=hunter2-hunter2",
            "(pwd=hunter2-hunter2)",
            "password = \"hunter2-hunter2",
        ] {
            hides(text);
        }
    }

    #[test]
    fn json_and_json_within_json_is_understood() {
        for text in [
            r#"{"password":"hunter2-hunter2","user":"a"}"#,
            r#"{"accessToken" : "hunter2-hunter2", "n": 1}"#,
            r#"{"log":"{\"token\":\"hunter2-hunter2\",\"n\":1}"}"#,
            r#"{"msg":"got password=hunter2-hunter2","level":"info"}"#,
        ] {
            hides(text);
        }
        assert_eq!(redact(r#"{"secret":"a\"b","n":1}"#), r#"{"secret":"[redacted]","n":1}"#);
        assert_eq!(redact(r#"{"tokens":["a","b"],"n":1}"#), r#"{"tokens":[redacted],"n":1}"#);
        assert_eq!(
            redact(r#"Login { password: Some("a b"), n: 1 }"#),
            "Login { password: [redacted]\"), n: 1 }"
        );
        assert_eq!(redact("password=b'abc', n"), "password=[redacted]', n");
    }

    #[test]
    fn headers_and_bearer_tokens_are_replaced() {
        hides("Authorization: hunter2-hunter2");
        assert_eq!(
            redact("authorization: Basic YTpi\nhost: a"),
            "authorization: [redacted]\nhost: a"
        );
        assert_eq!(
            redact("-H 'Authorization: Bearer abc def' -v"),
            "-H 'Authorization: [redacted]' -v"
        );
        assert_eq!(redact("Cookie: a=b; c=d\nx"), "Cookie: [redacted]\nx");
        hides("sent bearer hunter2-hunter2 to it");
        assert_eq!(redact("token: Bearer abc rest"), "token: [redacted] rest");
        keeps("the bearer of news");
        keeps("a forbearer abcdefghijk");
    }

    #[test]
    fn passwords_in_urls_are_replaced() {
        hides("postgres://app:hunter2-hunter2@db:5432/shop?sslmode=off");
        hides("amqp://app:hunter2-hunter2@10.0.0.1, retry");
        assert_eq!(
            redact("https://ghp_0123456789abcdef@github.com/a"),
            "https://[redacted]@github.com/a"
        );
        keeps("ssh://git@github.com/a");
        keeps("http://localhost:5000/health and a@b.c");
        assert_eq!(redact("redis://:p@ss@h/0"), "redis://:[redacted]@h/0");
    }

    #[test]
    fn a_private_key_is_replaced_to_its_end() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nnext";
        let hidden = "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----\nnext";
        assert_eq!(redact(key), hidden);
        assert_eq!(
            redact("-----BEGIN PRIVATE KEY-----\nMIIE"),
            "-----BEGIN PRIVATE KEY-----[redacted]"
        );
        keeps("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----");
    }

    #[test]
    fn other_text_stays() {
        for text in [
            "",
            "GET /health 200 in 3 ms",
            "token-refresher is waiting",
            r#"{"threadName":"token-refresher","threadId":5}"#,
            "at crate::token::Kind::parse(token.rs)",
            "password reset page is slow",
            "password:\nnext line",
            "ключ: значение äöü 🙂",
            "password",
            "secret=",
        ] {
            keeps(text);
        }
    }

    #[test]
    fn several_secrets_and_texts_in_any_script_are_handled() {
        assert_eq!(redact("password=ä🙂ö x token=b"), "password=[redacted] x token=[redacted]");
        assert_eq!(
            redact("ä password: 'ö' 🙂 https://a:b@c"),
            "ä password: '[redacted]' 🙂 https://a:[redacted]@c"
        );
    }

    #[test]
    fn a_large_text_takes_no_longer_for_what_is_in_it() {
        for piece in ["token", "password=\"\"", "-----BEGIN ", "://a:", "bearer ", "pwd=["] {
            let text = piece.repeat((256 << 10) / piece.len());
            let begun = std::time::Instant::now();
            let _ = redact(&text);
            assert!(begun.elapsed().as_secs() < 5, "{piece:?} took {:?}", begun.elapsed());
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let pieces = [
            "password",
            "=",
            ":",
            "\"",
            "\\",
            "'",
            " ",
            "://",
            "a",
            "@",
            "[",
            "(",
            "b",
            "\n",
            "ä",
            "bearer ",
            "-----BEGIN ",
            "PRIVATE KEY-----",
            "authorization",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let text: String =
                (0..random.usize(0..12)).map(|_| pieces[random.usize(0..pieces.len())]).collect();
            let once = redact(&text);
            assert!(once.len() <= text.len() + 12 * REDACTED.len(), "{text:?}");
        }
    }
}
