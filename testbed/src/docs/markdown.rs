//! What a page of Markdown links to, and what can be linked to in it.
use std::collections::{HashMap, HashSet};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The links of a page, as they are written, and the anchors of its headings.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    pub(super) links: Vec<String>,
    pub(super) anchors: HashSet<String>,
}

pub(super) fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut heading: Option<String> = None;
    let mut times: HashMap<String, usize> = HashMap::new();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push(dest_url.to_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let before = times.entry(anchor.clone()).or_default();
                page.anchors.insert(match *before {
                    0 => anchor,
                    times => format!("{anchor}-{times}"),
                });
                *before += 1;
            }
            _ => {}
        }
    }
    page
}

/// The name of a heading in links, as the hosts of repositories and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '-' | '_');
    let name = heading.trim().chars().filter(|c| kept(*c)).flat_map(char::to_lowercase);
    name.map(|c| if c.is_whitespace() { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_no_links() {
        let page = read(
            "[a](a.md#b) `[c](c.md)` ![d](d.svg)\n\n```\n[e](e.md)\n```\n\n| [f](f.md) |\n|---|\n",
        );
        assert_eq!(page.links, ["a.md#b", "d.svg", "f.md"]);
    }

    #[test]
    fn a_heading_is_named_by_its_letters() {
        let page = read("# The `x_y` (Z), 95 %\n## Twice\n## Twice\n");
        assert_eq!(page.anchors, ["the-x_y-z-95-", "twice", "twice-1"].map(str::to_owned).into());
    }
}
