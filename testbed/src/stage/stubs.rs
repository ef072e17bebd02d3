//! Stub services by the dozen, in this process: they answer `/health` and `/heal` and do nothing
//! else. Tests use them to see how the agent shows its targets, so they need no cgroup.
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Result;

/// The stack of each thread: there are many threads.
const STACK: usize = 256 * 1024;

/// Services on ports of their own. Their threads end with this process.
pub(crate) struct StubServices {
    pub(crate) urls: Vec<String>,
    errors: Vec<Arc<AtomicU32>>,
}

/// From this number of errors on, a service keeps them through every heal, and each poll adds more.
pub(crate) const INCURABLE: u32 = 1000;
/// So many per poll.
const MORE: u32 = 3;

impl StubServices {
    pub(crate) fn start(count: usize) -> Result<Self> {
        let mut services = Self { urls: Vec::new(), errors: Vec::new() };
        for n in 0..count {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            services.urls.push(format!("http://{}", listener.local_addr()?));
            let errors = Arc::new(AtomicU32::new(0));
            services.errors.push(Arc::clone(&errors));
            thread::Builder::new().stack_size(STACK).spawn(move || {
                let born = Instant::now();
                for stream in listener.incoming().map_while(Result::ok) {
                    let errors = Arc::clone(&errors);
                    // A client that breaks the connection off comes again.
                    let serve = move || serve(&stream, n, born, &errors).unwrap_or_default();
                    let _ = thread::Builder::new().stack_size(STACK).spawn(serve);
                }
            })?;
        }
        Ok(services)
    }

    /// Sets the error count of one service.
    pub(crate) fn set_errors(&self, service: usize, errors: u32) {
        self.errors[service].store(errors, Ordering::Relaxed);
    }
}

fn serve(stream: &TcpStream, n: usize, born: Instant, errors: &AtomicU32) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let heal = line.starts_with("POST");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some(given) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = given.trim().parse().unwrap_or_default();
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        if errors.load(Ordering::Relaxed) >= INCURABLE {
            errors.fetch_add(MORE, Ordering::Relaxed);
        } else if heal {
            errors.store(0, Ordering::Relaxed);
        }
        let uptime = born.elapsed().as_secs_f64() + 1000.0;
        // Each at its own pace, so that the charts differ.
        let wave = (uptime / (5.0 + (n % 13) as f64) + n as f64).sin();
        let body = format!(
            r#"{{"status":"healthy","cpu_usage":{:.1},"memory_usage":{:.1},"error_count":{},"uptime":{uptime:.1}}}"#,
            30.0 + 18.0 * wave,
            25.0 + (n % 7) as f64 * 6.0 + 4.0 * wave,
            errors.load(Ordering::Relaxed),
        );
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        (&mut &*stream).write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())?;
    }
}
