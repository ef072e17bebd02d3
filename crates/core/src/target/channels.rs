//! Names of channels for notifications: who is told of a target, beside those who are told of all.
use std::fmt;

use super::consent::is_label;

/// Longest name, in bytes: as for a label's value.
const LONGEST: usize = 63;

/// Names of channels, without duplicates, in alphabetical order. Which channels exist is a setting of
/// the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelNames(Vec<String>);

impl ChannelNames {
    /// Maximum number of names.
    pub const MOST: usize = 16;

    /// Reads names that are separated by commas.
    ///
    /// # Errors
    /// [`NotChannelNames`] if the list is empty, has more than [`Self::MOST`] names, or holds a text that
    /// no channel may be called.
    pub fn read(text: &str) -> Result<Self, NotChannelNames> {
        text.split(',').map(str::trim).try_fold(Self::default(), |mut names, name| {
            let is_fine = Self::is_name(name) && names.add(name);
            is_fine.then_some(names).ok_or(NotChannelNames)
        })
    }

    /// Whether a channel may have this name: a label of DNS.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_label(text, LONGEST)
    }

    /// Adds those of another list, as long as there is room.
    pub fn join(&mut self, others: &Self) {
        for name in &others.0 {
            self.add(name);
        }
    }

    /// Adds a name; `false` if there are too many.
    fn add(&mut self, name: &str) -> bool {
        let Err(place) = self.0.binary_search_by(|known| known.as_str().cmp(name)) else {
            return true;
        };
        if self.0.len() >= Self::MOST {
            return false;
        }
        self.0.insert(place, name.to_owned());
        true
    }

    /// Whether this name is among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Those that are not in another list.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        Self(self.0.iter().filter(|name| !others.contains(name)).cloned().collect())
    }

    /// Whether the list is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for ChannelNames {
    /// Of names that were checked; those for which there is no room are left out.
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut all = Self::default();
        for name in names {
            all.add(name);
        }
        all
    }
}

impl fmt::Display for ChannelNames {
    /// As [`ChannelNames::read`] reads them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// A text is no list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::WHY)]
pub struct NotChannelNames;

impl NotChannelNames {
    /// The reason.
    pub const WHY: &'static str = "not a list of up to 16 names of channels, such as shop or shop, on-call: small letters, \
         digits and -";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_said_once() {
        let names = ChannelNames::read("shop, on-call,shop ,a1").unwrap();
        assert_eq!(names.to_string(), "a1, on-call, shop");
        assert_eq!(ChannelNames::read(&names.to_string()), Ok(names.clone()));
        assert!(names.contains("shop") && !names.contains("sho") && !names.is_empty());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        let many = (0..17).map(|n| format!("a{n}")).collect::<Vec<_>>().join(",");
        for text in ["", ",", "shop,", "Shop", "-a", "a-", "a b", "a_b", "ü", &long, &many] {
            assert_eq!(ChannelNames::read(text), Err(NotChannelNames), "{text:?}");
        }
        assert!(ChannelNames::read(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn lists_are_joined_within_the_bound() {
        let mut names = ChannelNames::read("b,a").unwrap();
        names.join(&ChannelNames::read("c,a").unwrap());
        assert_eq!(names.to_string(), "a, b, c");
        assert_eq!(names.without(&ChannelNames::read("b").unwrap()).to_string(), "a, c");
        let many = (0..16).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
        names.join(&ChannelNames::read(&many).unwrap());
        assert_eq!(names.to_string().split(", ").count(), ChannelNames::MOST);
        assert!(names.contains("a"), "who was told before is told the end");
    }
}
