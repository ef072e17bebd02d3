//! Parses a rung.
use clap::builder::{PossibleValuesParser, TypedValueParser};
use paramedic_core::target::Rung;

/// Accepts the names of the rungs up to `most`.
pub(super) fn up_to(most: Rung) -> impl TypedValueParser<Value = Rung> {
    let names = Rung::ALL.into_iter().filter(move |rung| *rung <= most).map(Rung::name);
    // Every accepted name has a rung.
    PossibleValuesParser::new(names).map(|name| Rung::from_name(&name).unwrap_or(Rung::Observe))
}
