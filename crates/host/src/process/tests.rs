use std::net::TcpListener;

use super::*;
use crate::testing::{Service, listen};

fn local() -> IpAddr {
    "127.0.0.1".parse().unwrap()
}

#[test]
fn the_process_behind_a_port_is_found() {
    let (socket, port) = listen("127.0.0.1");
    let service = Service::start(socket, &["sleep", "600"]);
    let tree = Tree::default();
    let found = discover(&tree, port, &[local()]).unwrap();
    assert_eq!(found.instance.pid, service.pid());
    assert_eq!(found.name, "sleep");
    assert_eq!(found.owners, [service.pid()]);
    assert_eq!(found.address, SocketAddr::new(local(), port));
    assert!(found.started <= crate::clock::now());
    assert!(found.cgroups.shared, "this test stands in the same cgroup");
    assert_eq!(discover(&tree, port, &[]).unwrap(), found);
    assert!(tree.still_alive(found.instance));
    drop(service);
    assert!(!tree.still_alive(found.instance));
    let error = discover(&tree, port, &[]).unwrap_err();
    assert!(matches!(error, DiscoverError::NotListening(p) if p == port), "{error}");
}

#[test]
fn a_wrong_address_is_an_error_with_the_right_one() {
    let (socket, port) = listen("127.0.0.2");
    let _service = Service::start(socket, &["sleep", "600"]);
    let error = discover(&Tree::default(), port, &[local()]).unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.2:{port}")), "{error}");
}

#[test]
fn a_wildcard_listener_is_reached_by_the_requested_address() {
    let (socket, port) = listen("0.0.0.0");
    let _service = Service::start(socket, &["sleep", "600"]);
    let asked = ["::1".parse().unwrap(), local()];
    let found = discover(&Tree::default(), port, &asked).unwrap();
    assert_eq!(found.address, SocketAddr::new(local(), port));
}

#[test]
fn unrelated_processes_on_one_port_are_listed_and_refused() {
    let (socket, port) = listen("127.0.0.1");
    let socket2 = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let one = Service::start(socket, &["sleep", "600"]);
    let two = Service::start(socket2, &["sleep", "600"]);
    let error = discover(&Tree::default(), port, &[]).unwrap_err().to_string();
    for service in [&one, &two] {
        assert!(error.contains(&format!("sleep pid {}", service.pid())), "{error}");
    }
    let found = discover(&Tree::default(), port, &[local()]).unwrap();
    assert_eq!(found.instance.pid, one.pid());
}

/// In the process table, Docker's helper is recognised by its name.
#[test]
fn a_port_of_a_container_proxy_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("docker-proxy");
    fs::copy("/bin/sleep", &helper).unwrap();
    let (socket, port) = listen("127.0.0.1");
    let _helper = Service::start(socket, &[helper.to_str().unwrap(), "600"]);
    let error = discover(&Tree::default(), port, &[]).unwrap_err();
    assert!(matches!(error, DiscoverError::Published(_)), "{error}");
    assert!(error.to_string().contains(&format!("watch http://localhost:{port} CONTAINER")));
}
