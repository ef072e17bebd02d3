//! Polls and soft remedies over TLS, against real rustls servers.
use paramedic_core::target::Soft;

use crate::{Endpoint, soft};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server saw of one connection: the requested name, the request, and how it ended.
type Seen = (Option<String>, String, std::io::Result<usize>);

struct Secure {
    address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// With these versions only, and a certificate that was never valid.
fn acceptor(versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["nobody.invalid".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1999, 12, 31);
    params.not_before = rcgen::date_time_ymd(1999, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn secure(versions: &[&'static SupportedProtocolVersion]) -> Secure {
    let acceptor = acceptor(versions);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, seen) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            stream.write_all(GOOD.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let end = stream.read(&mut [0; 16]).await;
            let _ = tell.send((name, request, end));
        }
    });
    Secure { address, seen, task }
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted() {
    for version in [&TLS12, &TLS13] {
        let mut server = secure(&[version]).await;
        let mut app = probing(server.address, true, "/health");
        for _ in 0..2 {
            let poll = app.poll(NOW).await;
            healthy(&poll);
            assert_eq!(poll.hung_up, 0);
            let (name, request, end) = server.seen.recv().await.unwrap();
            assert_eq!(name.as_deref(), Some("patient"));
            assert!(request.starts_with("GET /health HTTP/1.1\r\nhost: patient:5000\r\n"));
            assert_eq!(end.map_err(|error| error.kind()), Ok(0), "not an orderly end");
        }
    }
}

/// A server that closes at once reads no more: an end of TLS that it leaves unread would make its
/// kernel send a reset, which would count as one of its own.
#[tokio::test]
async fn a_server_that_closes_first_gets_no_further_data() {
    let acceptor = acceptor(&[&TLS12, &TLS13]);
    let (left, mut unread) = mpsc::unbounded_channel();
    let server = Server::scripted(move |peer| {
        let (acceptor, left) = (acceptor.clone(), left.clone());
        async move {
            let mut stream = acceptor.accept(peer.stream).await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(GOOD.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut tcp = stream.into_inner().0;
            left.send(tcp.read(&mut [0; 64]).await.map_err(|error| error.kind())).unwrap();
        }
    })
    .await;
    let mut app = probing(server.address, true, "/health");
    for _ in 0..20 {
        healthy(&app.poll(NOW).await);
        assert_eq!(unread.recv().await, Some(Ok(0)));
    }
}

#[tokio::test]
async fn an_ip_address_is_not_sent_as_sni() {
    let mut server = secure(&[&TLS13]).await;
    let host = server.address.to_string();
    let poll = App::new(server.address, true, &host, None).unwrap().poll(NOW).await;
    healthy(&poll);
    assert_eq!(server.seen.recv().await.unwrap().0, None);
}

#[tokio::test]
async fn a_soft_remedy_goes_over_tls_too() {
    let mut server = secure(&[&TLS13]).await;
    let heal = Endpoint::new(server.address, true, "patient:5000", "/heal").unwrap();
    let Soft::Http(request) = Soft::default() else { unreachable!("it is a request") };
    let reset = soft::reset(&heal, &request).await;
    assert_eq!((reset.result, reset.responses), (Ok(()), [0, 1, 0, 0, 0]));
    assert!(server.seen.recv().await.unwrap().1.starts_with("POST /heal HTTP/1.1\r\n"));
}

#[tokio::test]
async fn the_wrong_scheme_is_named() {
    for answer in [GOOD, "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.9\r\n"] {
        let server = Server::scripted(move |mut peer| async move {
            let _ = peer.stream.read_u8().await;
            peer.write(answer).await;
        })
        .await;
        let poll = probing(server.address, true, "/health").poll(NOW).await;
        fails(&poll, Transport::NotTls, [0; 5]);
        assert_eq!((poll.heard(), poll.hung_up), (Heard::Unreadable, 1));
    }
    let server = secure(&[&TLS13]).await;
    let poll = probing(server.address, false, "/health").poll(NOW).await;
    fails(&poll, Transport::NotHttp, [0; 5]);
}

#[tokio::test]
async fn a_handshake_that_hangs_is_silence() {
    let server = Server::silent().await;
    let mut app = probing(server.address, true, "/health");
    let poll = slow_poll(&mut app).await;
    fails(&poll, Transport::Timeout, [0; 5]);
    assert_eq!((poll.heard(), poll.hung_up, server.accepted()), (Heard::Silent, 0, 1));
    let server = Server::answering("").await;
    let poll = probing(server.address, true, "/health").poll(NOW).await;
    assert_eq!(poll.heard(), Heard::Silent, "{poll:?}");
}
