//! Restarts by the owner's restart command.
use std::fs;

use crate::{
    agent::{Agent, Directory, get, until},
    servers::{Server, Successor, patient_program},
};

struct Ward {
    // Dropped in this order: the agent must not see its targets vanish.
    agent: Agent,
    patient: Server,
    successor: Successor,
    state: Directory,
}

impl Ward {
    /// A server, and an agent with a command that records each run, ends the server if it still
    /// runs, and starts another.
    fn new() -> Self {
        let state = Directory::new();
        let patient = Server::patient();
        let successor = Successor(state.file("pid"));
        let command = format!(
            "echo run >>'{directory}/runs'
             kill {pid} 2>/dev/null
             while kill -0 {pid} 2>/dev/null; do sleep 0.05; done
             '{program}' --address 127.0.0.1 --port {port} --log off &
             echo $! >'{directory}/pid'",
            directory = state.path().display(),
            pid = patient.pid(),
            program = patient_program().display(),
            port = patient.address.port(),
        );
        let agent = Agent::watch(&[&patient.url], &state, &["--restart-command", &command]);
        Self { agent, patient, successor, state }
    }

    fn is_healed_by_the_command(&mut self) {
        self.agent.hears("healing", &[("remedy", "restart")]);
        // This test is its parent, so it is not gone before it is reaped here.
        self.patient.ended();
        self.agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
        assert_eq!(fs::read_to_string(self.state.file("runs")).unwrap(), "run\n");
        let successor = self.successor.pid().unwrap();
        let its = format!("{successor}@");
        until("the successor is the one that is watched", || {
            let target = self.agent.target();
            target["id"]["instance"].as_str().unwrap().starts_with(&its).then_some(())
        });
        assert_eq!(get(self.patient.address, "/health").unwrap().0, 200);
        let incident = until("the outcome is in the journal", || {
            self.agent.incidents().into_iter().find(|incident| incident["outcome"] == "healed")
        });
        assert_eq!(incident["remedy"], "restart");
        assert_eq!(self.agent.incidents().len(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_sick_service_is_restarted_by_the_command() {
    let mut ward = Ward::new();
    ward.agent.sees_at_once(|| ward.patient.errors(15));
    ward.is_healed_by_the_command();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_ended_service_is_not_restarted_and_is_watched_when_it_returns() {
    let mut ward = Ward::new();
    let before = ward.agent.target()["id"]["instance"].clone();
    ward.patient.dies();
    ward.agent.hears("the process ended; waiting for its supervisor to start it again", &[]);
    let _successor = Server::patient_on(ward.patient.address.port());
    until("the successor is the one that is watched", || {
        (ward.agent.target()["id"]["instance"] != before).then_some(())
    });
    assert_eq!(ward.agent.said("healing", &[]), 0);
    assert!(!ward.state.file("runs").exists(), "the command was not run");
}
