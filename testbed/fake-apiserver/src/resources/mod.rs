//! The resources: the state of each, its controllers, the handlers of its requests, and what a test
//! can do to it.
pub(crate) mod contents;
pub(crate) mod objects;
pub(crate) mod removal;
pub(crate) mod garbage;
mod namespaces;
mod nodes;
pub(crate) mod pods;
pub(crate) mod workloads;
pub(crate) mod budgets;
pub(crate) mod leases;
pub(crate) mod events;
mod config;
pub(crate) mod services;
mod apiservices;
