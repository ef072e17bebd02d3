//! The app over real sockets, within the test and as the real process.
#[cfg(test)]
mod support;

#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod illnesses;
#[cfg(test)]
mod process;
