//! Which of the two representations of the metrics a client prefers. Pure.

/// Whether the values of `Accept` prefer text to JSON: the greater quality wins, then the first
/// named. Without a preference, as from curl or a browser, it is JSON.
pub(super) fn prefers_text<'a>(values: impl Iterator<Item = &'a str>) -> bool {
    let mut best = (0.0, false);
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let text = match media_type.as_str() {
            "text/plain" | "application/openmetrics-text" => true,
            "application/json" | "application/*" | "*/*" => false,
            _ => continue,
        };
        let quality = quality(parts);
        if quality > best.0 {
            best = (quality, text);
        }
    }
    best.1
}

fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f32 {
    let q = parameters.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
    q.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(accept: &str) -> bool {
        prefers_text([accept].into_iter())
    }

    #[test]
    fn scrapers_get_text() {
        assert!(prefers("text/plain"));
        assert!(prefers("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
        assert!(prefers(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
        ));
        assert!(prefers("application/json;q=0.5, Text/Plain"));
    }

    #[test]
    fn all_others_get_json() {
        assert!(!prefers_text([].into_iter()));
        for accept in [
            "*/*",
            "",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json, text/plain, */*",
            "text/plain;q=0",
            "text/plain;q=nonsense",
            "image/png",
            ",;,;q=",
        ] {
            assert!(!prefers(accept), "{accept}");
        }
    }
}
