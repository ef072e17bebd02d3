//! The fake API server as a program: `cargo xtask bench` runs an agent against it.
//!
//! It prints the address that it serves, for any token, and then reads commands, one a line: a pod
//! as JSON is added, and answered with `added`; an empty line is answered with the number of
//! requests so far. It ends with its input.
use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
    thread,
};

use fake_apiserver::FakeApi;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> io::Result<()> {
    let fake = FakeApi::new();
    fake.open(true);
    fake.add_node("node1");
    fake.add_namespace("paramedic-system", &[], &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    let ordered = fake.clone();
    let (ended, end) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        // The receiver is gone only if the server has ended.
        let _ = ended.send(obey(&ordered));
    });
    tokio::select! {
        () = fake.serve(listener) => Ok(()),
        end = end => end.unwrap_or(Ok(())),
    }
}

fn obey(fake: &FakeApi) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.is_empty() {
            writeln!(out, "{}", fake.requests().len())?;
        } else {
            fake.add_pod(serde_json::from_str(&line)?);
            writeln!(out, "added")?;
        }
        out.flush()?;
    }
    Ok(())
}
