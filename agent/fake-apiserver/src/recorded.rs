//! The recorded exchanges.
