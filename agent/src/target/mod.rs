//! Who is watched.
