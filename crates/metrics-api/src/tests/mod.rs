//! The whole metrics API between a fake API server and real agent ports, over real TLS.
mod agents;
mod forecast;
mod front;
mod hpa;
mod recorded;
mod registering;
mod scene;

use scene::{Front, HPA, OWN, Scene};
