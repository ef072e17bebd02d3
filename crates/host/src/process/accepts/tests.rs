use super::*;

const NOTHING: fn(u64, &mut [u8]) -> bool = |_, _| false;

fn call(text: &str, listening: &[i32]) -> Option<Accepts> {
    let listening = listening.iter().copied().collect();
    Call::parse(text).map(|call| call.accepts(NOTHING, &listening))
}

#[test]
fn a_thread_in_accept_names_the_descriptor() {
    let text = format!("{} 0x3 0x7ffc 0x7ffd 0x80000 0x0 0x0 0x7ffc 0x7f53\n", ACCEPTS[1]);
    assert_eq!(call(&text, &[3, 7]), Some(Accepts::Yes));
    assert_eq!(call(&text, &[7]), Some(Accepts::No), "another socket's");
    let wide = text.replace("0x3 ", "0xffffffff00000003 ");
    assert_eq!(call(&wide, &[3]), Some(Accepts::Yes), "an int in a register");
    for idle in ["running\n", "-1 0x7ffc 0x7f53\n", "", "61", "61 3 4", "x 0x1 0x2"] {
        assert_eq!(call(idle, &[3]), None, "{idle:?}");
    }
    assert_eq!(call("61 0x3 0x0 0x0", &[3]), Some(Accepts::No), "wait4");
}

#[test]
fn the_lists_of_poll_and_select_are_read_from_memory() {
    let listening = BTreeSet::from([70]);
    let with = |number: c_long, first: u64, second: u64, memory: Vec<u8>| {
        let peek = |at: u64, buffer: &mut [u8]| {
            let whole = at == 0x1000 && buffer.len() <= memory.len();
            if whole {
                buffer.copy_from_slice(&memory[..buffer.len()]);
            }
            whole
        };
        Call { number, first, second }.accepts(peek, &listening)
    };
    let entry =
        |fd: i32, events: i16| [&fd.to_ne_bytes()[..], &events.to_ne_bytes(), &[0; 2]].concat();
    let poll = POLLS[0];
    let list = [entry(5, libc::POLLIN), entry(70, libc::POLLIN)].concat();
    assert_eq!(with(poll, 0x1000, 2, list.clone()), Accepts::Yes);
    assert_eq!(with(poll, 0x1000, 1, list.clone()), Accepts::No, "the second is not in it");
    assert_eq!(with(poll, 0x1000, 1, entry(70, libc::POLLOUT)), Accepts::No);
    assert_eq!(with(poll, 0x2000, 2, list.clone()), Accepts::Maybe, "not to be read");
    assert_eq!(with(poll, 0x1000, 1 << 31, list), Accepts::Maybe, "absurdly long");
    let set = [0_u64.to_ne_bytes(), (1_u64 << 6).to_ne_bytes()].concat();
    let select = SELECTS[0];
    assert_eq!(with(select, 71, 0x1000, set.clone()), Accepts::Yes);
    assert_eq!(with(select, 64, 0x1000, set), Accepts::No, "its end is before it");
    assert_eq!(with(select, 0, 0, Vec::new()), Accepts::No, "only a pause");
}

#[test]
fn an_epoll_instance_lists_what_it_watches() {
    let line = "tfd:        3 events:       19 data:                3  pos:0 ino:755d sdev:9";
    assert_eq!(watched(line), Some(0x755d));
    assert_eq!(watched(&line.replace("19 ", "4 ")), None, "for output alone");
    assert_eq!(watched(&line.replace("19 ", "40000000 ")), Some(0x755d), "fired once");
    for cut in 0..line.find(" ino:").unwrap() {
        assert_eq!(watched(&line[..cut]), None);
    }
    assert_eq!(watched("pos:\t0"), None);
    assert_eq!(watched(&line.replace("755d", "x")), None);
}

/// A process in a tree created for the test, with these files.
fn seen(files: &[(&str, &str)], connected: &[u64]) -> Accepts {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree { proc: folder.path().to_owned(), ..Tree::default() };
    for (name, content) in files {
        let path = tree.of(7, name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.starts_with("fd/") {
            std::os::unix::fs::symlink(content, path).unwrap();
        } else {
            fs::write(path, content).unwrap();
        }
    }
    let connected = connected.iter().copied().collect();
    accepts(&tree, 7, &[55].into(), &connected).unwrap_or(Accepts::Maybe)
}

#[test]
fn a_holder_is_judged_by_its_files_and_threads() {
    let wait4 = ("task/7/syscall", "61 0x3 0x0 0x0");
    let accept = format!("{} 0x3 0x0 0x0", ACCEPTS[0]);
    let accept = ("task/8/syscall", accept.as_str());
    let socket = ("fd/3", "socket:[55]");
    assert_eq!(seen(&[socket, wait4], &[]), Accepts::No);
    assert_eq!(seen(&[socket, wait4, accept], &[]), Accepts::Yes, "one thread of two");
    let connection = ("fd/9", "socket:[99]");
    assert_eq!(seen(&[socket, wait4, connection], &[99]), Accepts::Yes);
    assert_eq!(seen(&[socket, wait4, connection], &[98]), Accepts::No);
    let epoll = ("fd/4", "anon_inode:[eventpoll]");
    let watching = ("fdinfo/4", "pos:\t0\ntfd: 3 events: 19 data: 3 pos:0 ino:37 sdev:9\n");
    assert_eq!(seen(&[socket, wait4, epoll, watching], &[]), Accepts::Yes);
    assert_eq!(seen(&[socket, wait4, epoll], &[]), Accepts::No);
    let ring = ("fd/4", "anon_inode:[io_uring]");
    assert_eq!(seen(&[socket, wait4, ring], &[]), Accepts::Maybe);
    assert_eq!(seen(&[socket, ("task/7/stat", "")], &[]), Accepts::Maybe, "no such file here");
    assert_eq!(seen(&[socket], &[]), Accepts::Maybe, "ended");
}
