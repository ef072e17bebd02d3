//! The status page: files embedded in the binary, and the security headers for browsers.
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

/// An embedded file.
pub(super) struct File {
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

const MARKUP: &str = "text/html; charset=utf-8";

/// The page.
pub(super) const HTML: File = File { kind: MARKUP, text: include_str!("page/index.html") };

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page of all nodes, and the other files.
pub(super) fn file(path: &str) -> Option<File> {
    let (kind, text) = match path {
        "/fleet" => (MARKUP, include_str!("page/fleet.html")),
        "/page/fleet.js" => (SCRIPT, include_str!("page/fleet.js")),
        "/page/style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "/page/main.js" => (SCRIPT, include_str!("page/main.js")),
        "/page/model.js" => (SCRIPT, include_str!("page/model.js")),
        "/page/list.js" => (SCRIPT, include_str!("page/list.js")),
        "/page/chart.js" => (SCRIPT, include_str!("page/chart.js")),
        "/page/detail.js" => (SCRIPT, include_str!("page/detail.js")),
        "/page/story.js" => (SCRIPT, include_str!("page/story.js")),
        "/page/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(File { kind, text })
}

/// Permits only what this agent serves itself, without frames and forms: names and health texts
/// come from pods, and even if one were interpreted as markup, it could do nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds the security headers for browsers.
pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
