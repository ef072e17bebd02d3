//! The cap of a namespace: whoever answers for a namespace limits every ceiling in it, whatever the
//! labels of its pods and the policies say.
use std::fmt;

use super::{Remedy, Settings};

/// Label of a namespace: the strongest remedy for any of its pods, one of `observe`, `soft`,
/// `restart`, `evict`.
pub const HEAL_AT_MOST: &str = "paramedic.dev/heal-at-most";

/// What the namespace of a pod permits at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cap {
    /// Its label names this remedy, or no known one: then `observe`.
    Named(Remedy),
    /// It has no such label.
    None,
    /// The API server has not told yet. In doubt pods are only observed.
    #[default]
    Unknown,
}

impl Cap {
    /// Reads the value of the label.
    #[must_use]
    pub fn read(label: &str) -> Self {
        Self::Named(Remedy::from_name(label).unwrap_or(Remedy::Observe))
    }

    /// The strongest remedy that it permits.
    #[must_use]
    pub const fn most(self) -> Remedy {
        match self {
            Self::Named(most) => most,
            Self::None => Remedy::Evict,
            Self::Unknown => Remedy::Observe,
        }
    }
}

/// A ceiling that a namespace has lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capped {
    /// By what.
    pub cap: Cap,
    /// What the owner consents to.
    pub owner: Remedy,
}

impl fmt::Display for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.name();
        match self.cap {
            Cap::Unknown => {
                write!(f, "the cap of its namespace is not known yet; its owner permits {owner}")
            }
            cap => write!(
                f,
                "its namespace permits {} at most ({HEAL_AT_MOST}); its owner permits {owner}",
                cap.most().name()
            ),
        }
    }
}

impl Settings {
    /// The same under this cap, in the place of an earlier one.
    #[must_use]
    pub fn under(self, cap: Cap) -> Self {
        let owner = self.capped.map_or(self.ceiling, |capped| capped.owner);
        let capped = (cap.most() < owner).then_some(Capped { cap, owner });
        Self { ceiling: owner.min(cap.most()), capped, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_lowers_a_ceiling_and_gives_it_back() {
        for owner in Remedy::ALL {
            for most in Remedy::ALL {
                let settings = Settings::up_to(owner).under(Cap::Named(most));
                assert_eq!(settings.ceiling, owner.min(most));
                assert_eq!(settings.capped.is_some(), most < owner);
                assert_eq!(settings.clone().under(Cap::Unknown).ceiling, Remedy::Observe);
                assert_eq!(settings.under(Cap::None), Settings::up_to(owner));
            }
        }
    }

    #[test]
    fn what_is_unknown_or_unreadable_permits_nothing() {
        assert_eq!(Cap::read("restart"), Cap::Named(Remedy::Restart));
        for label in ["", "Restart", "everything", "restart "] {
            assert_eq!(Cap::read(label).most(), Remedy::Observe, "{label:?}");
        }
        assert_eq!(Cap::default().most(), Remedy::Observe);
    }

    #[test]
    fn the_reason_names_both() {
        let capped = Settings::up_to(Remedy::Evict).under(Cap::Named(Remedy::Soft)).capped;
        assert_eq!(
            capped.unwrap().to_string(),
            "its namespace permits soft at most (paramedic.dev/heal-at-most); its owner permits evict"
        );
    }
}
