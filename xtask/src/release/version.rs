//! The version of a release: its tag, and what the changelog says of it.
use anyhow::{Context, Result, ensure};

/// Checks that the tag is that of the version: `v0.2.0` for 0.2.0.
pub(super) fn check_tag(tag: &str, version: &str) -> Result<()> {
    ensure!(
        tag.strip_prefix('v') == Some(version),
        "the tag {tag} is not v{version}, which is the version of the workspace (Cargo.toml): tag \
         another commit, or change the version first"
    );
    Ok(())
}

/// The section of a version in the text of CHANGELOG.md, without its heading `## [0.2.0] - 2026-11-30`.
pub(super) fn notes<'a>(changelog: &'a str, version: &str) -> Result<&'a str> {
    let heading = format!("\n## [{version}] - ");
    let (_, section) = changelog.split_once(&heading).with_context(|| {
        format!("CHANGELOG.md has no section `## [{version}] - DATE`: rename [Unreleased]")
    })?;
    let (date, section) = section.split_once('\n').unwrap_or((section, ""));
    ensure!(is_date(date), "CHANGELOG.md dates {version} with {date:?}, which is not YYYY-MM-DD");
    let notes = section.split("\n## ").next().unwrap_or_default().trim();
    ensure!(!notes.is_empty(), "CHANGELOG.md says nothing of {version}");
    Ok(notes)
}

fn is_date(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok_and(|date| date.to_string() == text)
}

/// The version as Debian writes it: a pre-release comes before its release, and this is the first
/// package of it.
pub(super) fn of_debian(version: &str) -> String {
    format!("{}-1", version.replace('-', "~"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n- A\n\n## [0.2.0] - 2026-11-30\n\n### Added\n\n\
                             - B\n\n## [0.1.0] - 2026-11-27\n\n- C\n";

    #[test]
    fn the_tag_is_the_version_with_a_v() {
        check_tag("v0.2.0", "0.2.0").unwrap();
        for tag in ["0.2.0", "v0.2.1", "v0.2.0-rc.1", "release", ""] {
            let error = check_tag(tag, "0.2.0").unwrap_err().to_string();
            assert!(error.contains("v0.2.0"), "{error}");
        }
    }

    #[test]
    fn a_version_has_its_own_section() {
        assert_eq!(notes(CHANGELOG, "0.2.0").unwrap(), "### Added\n\n- B");
        assert_eq!(notes(CHANGELOG, "0.1.0").unwrap(), "- C");
        for (changelog, version) in [
            (CHANGELOG, "0.3.0"),
            (CHANGELOG, "Unreleased"),
            ("\n## [1.0.0] - soon\n\n- A\n", "1.0.0"),
            ("\n## [1.0.0] - 2026-11-30\n\n## [0.9.0] - 2026-11-30\n\n- A\n", "1.0.0"),
        ] {
            assert!(notes(changelog, version).is_err(), "{version}");
        }
    }

    #[test]
    fn debian_sorts_a_pre_release_before_its_release() {
        assert_eq!(of_debian("0.2.0"), "0.2.0-1");
        assert_eq!(of_debian("0.2.0-rc.1"), "0.2.0~rc.1-1");
    }
}
