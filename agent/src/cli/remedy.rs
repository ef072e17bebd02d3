//! Parses a remedy.
use clap::builder::{PossibleValuesParser, TypedValueParser};
use paramedic_core::target::Remedy;

/// Accepts the names of the remedies up to `most`.
pub(super) fn up_to(most: Remedy) -> impl TypedValueParser<Value = Remedy> {
    let names = Remedy::ALL.into_iter().filter(move |remedy| *remedy <= most).map(Remedy::name);
    // Every accepted name has a remedy.
    PossibleValuesParser::new(names).map(|name| Remedy::from_name(&name).unwrap_or(Remedy::Observe))
}
