//! The fake over plain HTTP/1.1, for a program that has only a kubeconfig.
use hyper::{Request, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use crate::FakeApi;

impl FakeApi {
    /// Answers for ever; dropping it closes all connections. The header
    /// `Authorization: Bearer TOKEN` names the client, see [`FakeApi::identity`].
    pub async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            while connections.try_join_next().is_some() {}
            if self.is_down() {
                continue;
            }
            let fake = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let fake = fake.clone();
                async move {
                    let token = token(&request);
                    fake.handle(request, token).await
                }
            });
            connections.spawn(async move {
                // An error here is a fault that was ordered, or a client that went away.
                let io = TokioIo::new(stream);
                http1::Builder::new().serve_connection(io, service).await.ok();
            });
        }
    }
}

fn token<B>(request: &Request<B>) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}
