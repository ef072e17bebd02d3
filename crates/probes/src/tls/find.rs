//! Finds the files with TLS functions that the processes of a target have mapped.
//!
//! A path in `/proc/PID/maps` is one of the process's own mount namespace, and the process may have
//! put something else there meanwhile. So a file is opened through `/proc/PID/map_files`, which
//! leads to exactly what is mapped, or, without the right to that, below `/proc/PID/root`, where no
//! link leads out of it. It is opened once: what is read and what a program is attached to is the
//! same file.
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::{
    Function, Refusal, elf,
    maps::{Mapped, mapped},
};

/// Most processes of a target to look at, most files of all of them in one look, and most in all.
const MAX_PROCESSES: usize = 64;
const MAX_FILES: usize = 64;
const MAX_SEEN: usize = 64;
/// Most bytes of a process's list of mappings.
const MAX_TEXT: u64 = 16 << 20;

/// A file, by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
}

/// A file with functions that write into TLS.
#[derive(Debug)]
pub struct Library {
    /// The file, open.
    pub(super) file: File,
    /// Which it is.
    pub inode: Inode,
    /// Its name, for people.
    pub name: String,
    /// Its functions, with their offsets in the file.
    pub(super) functions: Vec<(Function, u64)>,
}

/// What was found of one target.
#[derive(Debug, Default)]
pub struct Findings {
    /// The files that were not found before.
    pub libraries: Vec<Library>,
    /// Whether any file was found, now or before.
    pub any: bool,
    /// If none: why.
    pub why_not: Option<String>,
}

/// Looks for the files of one target. It remembers what it has seen, so that looking again is
/// cheap.
#[derive(Debug, Default)]
pub struct Finder {
    seen: HashMap<Inode, Seen>,
}

/// What is known of a file.
#[derive(Debug)]
enum Seen {
    /// It has the functions.
    Useful,
    /// It is a program without TLS of its own, as most are.
    Plain,
    /// It is a library of TLS that is of no use.
    Refused(String),
}

impl Finder {
    /// Looks at the processes in a cgroup. Blocks while it reads.
    pub fn look(&mut self, cgroup: &Path) -> Findings {
        let mut findings = Findings::default();
        let mut reasons: Vec<String> = Vec::new();
        let mut files: HashMap<String, bool> = HashMap::new();
        let processes = match processes(cgroup) {
            Ok(processes) => processes,
            Err(error) => {
                findings.why_not = Some(format!("cannot list its processes: {error}"));
                return findings;
            }
        };
        let mut java = false;
        for process in processes.iter().take(MAX_PROCESSES) {
            let maps = match maps(process) {
                Ok(maps) => maps,
                // It has ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    add(&mut reasons, rights("cannot read what it has mapped", &error));
                    continue;
                }
            };
            java |= maps.iter().any(|mapped| mapped.name() == "libjvm.so");
            let program = fs::read_link(process.join("exe")).map_err(|error| {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    add(&mut reasons, rights("cannot read which program it runs", &error));
                }
            });
            for mapped in maps {
                let is_program = program.as_ref().is_ok_and(|path| {
                    path.as_os_str().as_bytes().starts_with(mapped.path.as_bytes())
                });
                if !is_program && !may_have(&mapped.name())
                    || files.len() >= MAX_FILES
                    || files.insert(mapped.file.clone(), true).is_some()
                {
                    continue;
                }
                self.take(process, &mapped, is_program, &mut findings, &mut reasons);
            }
        }
        if !findings.any {
            findings.why_not = Some(if java {
                "the JVM's TLS is out of reach; /health is used instead".to_owned()
            } else if reasons.is_empty() {
                "none of its processes has a TLS library that can be watched: OpenSSL (libssl, or \
                 with its symbols in the program) or Go's crypto/tls"
                    .to_owned()
            } else {
                reasons.join("; ")
            });
        }
        findings
    }

    fn take(
        &mut self,
        process: &Path,
        mapped: &Mapped,
        is_program: bool,
        findings: &mut Findings,
        reasons: &mut Vec<String>,
    ) {
        let name = mapped.name();
        let refused = |error: &Refusal| match error {
            Refusal::Read(error) => rights(&format!("cannot read {name}"), error),
            error => format!("{name}: {error}"),
        };
        let opened = open(process, mapped).and_then(|file| {
            let about = file.metadata()?;
            Ok((file, Inode { device: about.dev(), number: about.ino() }))
        });
        let (file, inode) = match opened {
            Ok(opened) => opened,
            Err(error) => return add(reasons, refused(&Refusal::Read(error))),
        };
        match self.seen.get(&inode) {
            Some(Seen::Useful) => findings.any = true,
            Some(Seen::Plain) => {}
            Some(Seen::Refused(reason)) => add(reasons, reason.clone()),
            None if self.seen.len() >= MAX_SEEN => {
                add(reasons, "it has mapped too many files".to_owned());
            }
            None => match elf::functions(&file) {
                Ok(functions) => {
                    findings.any = true;
                    findings.libraries.push(Library { file, inode, name, functions });
                    self.seen.insert(inode, Seen::Useful);
                }
                Err(Refusal::NoFunctions) if is_program => {
                    self.seen.insert(inode, Seen::Plain);
                }
                Err(error) => {
                    let reason = refused(&error);
                    if !matches!(error, Refusal::Read(_)) {
                        self.seen.insert(inode, Seen::Refused(reason.clone()));
                    }
                    add(reasons, reason);
                }
            },
        }
    }

    /// Forgets a file, to find it again.
    pub fn forget(&mut self, inode: Inode) {
        self.seen.remove(&inode);
    }
}

/// Each reason once, and not too many of them.
fn add(reasons: &mut Vec<String>, reason: String) {
    if reasons.len() < 4 && !reasons.contains(&reason) {
        reasons.push(reason);
    }
}

fn rights(what: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return format!("{what}: it takes CAP_SYS_PTRACE ({error})");
    }
    format!("{what}: {error}")
}

/// Whether a library of this name may have the functions.
fn may_have(name: &str) -> bool {
    ["libssl", "libboringssl", "libnode", "_ssl."].iter().any(|begin| name.starts_with(begin))
}

/// The processes in a cgroup, as directories of `/proc`.
fn processes(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let text = read(&cgroup.join("cgroup.procs"))?;
    let text = String::from_utf8_lossy(&text);
    // 0: a process of another PID namespace.
    let pids = text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0);
    Ok(pids.map(|pid| PathBuf::from(format!("/proc/{pid}"))).collect())
}

fn maps(process: &Path) -> io::Result<Vec<Mapped>> {
    Ok(mapped(&read(&process.join("maps"))?))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, MAX_TEXT), &mut text)?;
    Ok(text)
}

/// Opens what a process has mapped.
fn open(process: &Path, mapped: &Mapped) -> io::Result<File> {
    let exact = process.join("map_files").join(&mapped.range);
    match located(CWD, exact.as_os_str().as_bytes(), ResolveFlags::empty()) {
        Ok(located) => return regular(&located),
        Err(error) if mapped.deleted => return Err(error),
        Err(_) => {}
    }
    let root = File::open(process.join("root"))?;
    regular(&located(root, mapped.path.as_bytes(), within())?)
}

/// Finds a file without opening it, so that nothing but a file is ever opened.
fn located(directory: impl AsFd, path: &[u8], resolve: ResolveFlags) -> io::Result<OwnedFd> {
    Ok(openat2(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// No link leads out of the root.
fn within() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// Opens a located file to read it.
fn regular(located: &OwnedFd) -> io::Result<File> {
    let path = own_path(located);
    if !fs::metadata(&path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(path)
}

/// The path by which this process reaches an open file, whatever happens to its name.
pub(super) fn own_path(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory that is removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("paramedic-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn no_link_leads_out_of_a_root() {
        let scratch = Scratch::new("root");
        let root = scratch.0.join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(scratch.0.join("secret"), "outside").unwrap();
        fs::write(root.join("etc/file"), "inside").unwrap();
        symlink("/etc/file", root.join("absolute")).unwrap();
        symlink(scratch.0.join("secret"), root.join("out")).unwrap();
        symlink("../../../../../../etc/file", root.join("up")).unwrap();
        let root = File::open(&root).unwrap();
        let open = |path: &str| {
            let located = located(&root, path.as_bytes(), within())?;
            io::read_to_string(regular(&located)?)
        };
        for path in ["/etc/file", "/absolute", "/up"] {
            assert_eq!(open(path).unwrap(), "inside", "{path}");
        }
        assert!(open("/out").is_err());
        assert!(open("/etc").is_err(), "a directory");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let located = located(CWD, b"/dev/zero", ResolveFlags::empty()).unwrap();
        assert!(regular(&located).is_err());
    }

    #[test]
    fn a_process_that_is_gone_or_unreadable_is_no_reason_to_fail() {
        let scratch = Scratch::new("cgroup");
        fs::write(scratch.0.join("cgroup.procs"), "4194304\n0\nx\n").unwrap();
        let findings = Finder::default().look(&scratch.0);
        assert!(!findings.any && findings.libraries.is_empty());
        assert!(findings.why_not.unwrap().starts_with("none of its processes has a TLS library"));
        let none = Finder::default().look(&scratch.0.join("gone"));
        assert!(none.why_not.unwrap().starts_with("cannot list its processes"));
    }

    #[test]
    fn this_program_is_opened_as_it_is_mapped() {
        let own = Path::new("/proc/self");
        let name = std::env::current_exe().unwrap().file_name().unwrap().to_owned();
        let maps = maps(own).unwrap();
        let program = maps.iter().find(|mapped| *mapped.name() == *name).unwrap();
        let opened = open(own, program).unwrap().metadata().unwrap();
        let expected = fs::metadata("/proc/self/exe").unwrap();
        assert_eq!((opened.dev(), opened.ino()), (expected.dev(), expected.ino()));
    }

    #[test]
    fn libraries_are_recognised_by_their_names() {
        for name in ["libssl.so.3", "libssl-3e69114b.so.1.1.1k", "libnode.so.115", "_ssl.abi3.so"] {
            assert!(may_have(name), "{name}");
        }
        for name in ["libc.so.6", "libcrypto.so.3", "ssl", ""] {
            assert!(!may_have(name), "{name}");
        }
    }
}
