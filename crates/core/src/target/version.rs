//! The version of a target's program, as short text: equal for equal programs.

/// Digits of a digest: as many as `docker ps` shows.
const DIGITS: usize = 12;
/// Maximum length of an id without a digest.
const LONGEST: usize = 64;

/// The version by the id of an image (`sha256:…`, `registry/name@sha256:…`) and, for a pod, by the
/// revision of its template. `None` if neither is known.
#[must_use]
pub fn of_image(id: Option<&str>, revision: Option<&str>) -> Option<String> {
    let image = id.filter(|id| !id.is_empty()).map(|id| match id.rsplit_once("sha256:") {
        Some((_, digest)) => digest.chars().take(DIGITS).collect(),
        None => id.chars().take(LONGEST).collect::<String>(),
    });
    let revision = revision.map(|revision| revision.chars().take(LONGEST).collect());
    let parts: Vec<String> = [image, revision].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_told_by_its_digest() {
        let digest = "4f1c8597baaf07228e316624c14139b2ea14fca9e334c667c767709d9bcbdc81";
        for id in [format!("sha256:{digest}"), format!("docker.io/library/web@sha256:{digest}")] {
            assert_eq!(of_image(Some(&id), None).unwrap(), "4f1c8597baaf");
        }
        let long = of_image(Some(&"i".repeat(5000)), Some(&"r".repeat(5000))).unwrap();
        assert_eq!(long.len(), LONGEST + 1 + LONGEST);
    }

    #[test]
    fn a_revision_of_the_template_is_another_version() {
        assert_eq!(of_image(Some("sha256:ab"), Some("web-1")).unwrap(), "ab/web-1");
        assert_eq!(of_image(None, Some("web-1")).unwrap(), "web-1");
        assert_eq!(of_image(Some(""), None), None);
    }
}
