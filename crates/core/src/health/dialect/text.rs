//! Health in plain text: a word, or a short line.
use super::super::NotJson;
use super::Word;
use crate::health::Says;

/// A health page in plain text is a line. Longer text is something else.
const LONGEST: usize = 256;

/// The word of the first line.
pub(in super::super) fn word(text: &str) -> Option<Word> {
    Word::of(text.lines().next()?)
}

/// What text with a 2xx means. If `is_plain`, unknown words are good: a page that answers 2xx when
/// it is well answers something else when it is not.
///
/// # Errors
/// If it is neither a known word nor a short line.
pub(in super::super) fn says(text: &str, is_plain: bool) -> Result<Says, NotJson> {
    if let Some(word) = word(text) {
        return Ok(word.into());
    }
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if !text.chars().all(printable) {
        return Err(NotJson::NotObject);
    }
    if !is_plain {
        return Err(NotJson::NotObject);
    }
    if text.len() > LONGEST {
        return Err(NotJson::Prose);
    }
    // Such as `down for maintenance` or `Unhealthy: database`, which does not say where the cause
    // is.
    let first = text.split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';')).next();
    Ok(match first.and_then(Word::of) {
        Some(Word::Bad | Word::Later | Word::Warn) => Says::Warns,
        _ => Says::Well,
    })
}
