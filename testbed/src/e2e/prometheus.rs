//! Reads one value out of a page of metrics.

/// The value of the series of this name that carries at least these labels.
pub(super) fn value_of(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |line: &&str| {
        let Some(rest) = line.strip_prefix(name) else { return false };
        let named = rest.starts_with(['{', ' ']);
        named && labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
    };
    page.lines().find(fits)?.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP heals_total Remedies given.
# TYPE heals_total counter
heals_total{outcome=\"healed\",remedy=\"restart\"} 1
heals_total{outcome=\"healed\",remedy=\"soft\"} 3
heals_total_of_others 9
targets 4
";

    #[test]
    fn a_series_is_found_by_name_and_labels() {
        let labels = [("remedy", "soft"), ("outcome", "healed")];
        assert_eq!(value_of(PAGE, "heals_total", &labels), Some(3.0));
        assert_eq!(value_of(PAGE, "targets", &[]), Some(4.0));
        assert_eq!(value_of(PAGE, "heals_total", &[("remedy", "evict")]), None);
        assert_eq!(value_of(PAGE, "heals", &[]), None);
    }
}
