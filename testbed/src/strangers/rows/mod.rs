//! The table of episodes: a third-party service, its fault, and the right action.
mod behind;
mod controls;
mod crowd;
mod health;
mod ill;
mod innocent;
mod whose;
mod worn;

use anyhow::{Result, bail};

use super::episode::Episode;

/// All episodes, in the order in which they are listed.
pub(super) fn all() -> Vec<Episode> {
    [
        controls::ROWS,
        whose::ROWS,
        health::ROWS,
        innocent::ROWS,
        ill::ROWS,
        behind::ROWS,
        crowd::ROWS,
        worn::ROWS,
    ]
    .concat()
}

/// The episodes whose name contains one of these words, or all if there are no words, with their
/// places in the table. With `quick`, only the quick ones.
pub(super) fn chosen(names: &[String], quick: bool) -> Result<Vec<(u32, Episode)>> {
    let all = all();
    for name in names {
        if !all.iter().any(|episode| episode.name().contains(name.as_str())) {
            let names: Vec<_> = all.iter().map(Episode::name).collect();
            bail!("no such episode: {name}; there are:\n  {}", names.join("\n  "));
        }
    }
    let is_named = |episode: &Episode| {
        names.is_empty() || names.iter().any(|name| episode.name().contains(name.as_str()))
    };
    let is_chosen = |episode: &Episode| is_named(episode) && (episode.quick || !quick);
    let chosen: Vec<_> = (0..).zip(all).filter(|(_, episode)| is_chosen(episode)).collect();
    if chosen.is_empty() {
        bail!("none of these is quick: leave out --quick");
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::strangers::verdict::Did;

    #[test]
    fn names_are_unique_and_words() {
        let names: Vec<_> = all().iter().map(Episode::name).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/".contains(c);
        assert!(names.iter().all(|name| name.chars().all(word)), "{names:?}");
    }

    #[test]
    fn the_table_is_long_and_its_episodes_are_short() {
        let all = all();
        assert!(all.len() >= 150, "{}", all.len());
        assert!(all.iter().all(|episode| episode.seconds <= 40));
        let last = |episode: &Episode| episode.steps.last().map_or(0, |(at, _)| *at);
        assert!(all.iter().all(|episode| last(episode) < episode.seconds));
    }

    #[test]
    fn a_dozen_services_have_a_healthy_control() {
        let healthy = all().into_iter().filter(|episode| episode.fault == "healthy");
        let services: BTreeSet<_> = healthy.map(|episode| episode.service.name).collect();
        assert!(services.len() >= 12, "{services:?}");
    }

    #[test]
    fn what_is_quick_has_every_kind() {
        let quick: Vec<_> = chosen(&[], true).unwrap().into_iter().map(|(_, e)| e).collect();
        assert!((20..=26).contains(&quick.len()), "{}", quick.len());
        let ill = quick.iter().filter(|episode| episode.right == [Did::Restart]).count();
        let healthy = quick.iter().filter(|episode| episode.fault == "healthy").count();
        assert!(ill >= 3 && healthy >= 4, "{ill} ill, {healthy} healthy");
        assert!(quick.iter().all(|episode| !episode.alone && episode.seconds <= 40));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_list() {
        let error = chosen(&["no-such".to_owned()], false).unwrap_err().to_string();
        assert!(error.contains("no-such") && error.contains("nginx/healthy"), "{error}");
        assert!(chosen(&["tomcat".to_owned()], true).is_err(), "it takes too long");
    }
}
