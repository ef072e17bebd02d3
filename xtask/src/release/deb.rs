//! The Debian package of the agent, for machines without a cluster: the program, a unit of systemd, manual
//! pages and completions. Written here and not by dpkg-deb: the same content gives the same bytes on
//! every machine, whatever its dpkg.
use anyhow::Result;
use jiff::Timestamp;

use super::{
    ar,
    content::{CHANGELOG, COPYRIGHT, Content, DEFAULT, OVERRIDES, POSTINST, POSTRM, PRERM, UNIT},
    tarball::gzip,
    version,
};
use crate::image::layer::{self, Entry};

const MAINTAINER: &str = "The Paramedic authors <maintainers@paramedic.dev>";

/// The paths of the files that an administrator may change.
const CONFFILES: &str = "/etc/default/paramedic\n";

/// The package's name by Debian's convention.
pub(super) fn name(content: &Content) -> String {
    let version = version::of_debian(content.version);
    format!("paramedic_{version}_{}.deb", content.arch.name())
}

/// The package's bytes.
///
/// # Errors
/// If something of the content does not fit into its formats.
pub fn write(content: &Content) -> Result<Vec<u8>> {
    let data = data(content)?;
    let control = vec![
        Entry::file("control", control(content, data.len()).as_bytes()),
        Entry::file("conffiles", CONFFILES.as_bytes()),
        Entry::executable("postinst", content.file(POSTINST)),
        Entry::executable("prerm", content.file(PRERM)),
        Entry::executable("postrm", content.file(POSTRM)),
    ];
    let control = gzip(&layer::write_dated(control, content.created)?)?;
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &gzip(&data)?)];
    ar::write(&members, content.created)
}

/// What is installed, as a tar archive.
fn data(content: &Content) -> Result<Vec<u8>> {
    let mut entries = vec![
        Entry::executable("usr/bin/paramedic", &content.program),
        // `kubectl paramedic`.
        Entry::link("usr/bin/kubectl-paramedic", "paramedic"),
        Entry::link("usr/share/man/man1/kubectl-paramedic.1.gz", "paramedic-fleet.1.gz"),
        Entry::file("etc/default/paramedic", content.file(DEFAULT)),
        Entry::file("usr/lib/systemd/system/paramedic.service", content.file(UNIT)),
        Entry::file("usr/share/lintian/overrides/paramedic", content.file(OVERRIDES)),
    ];
    let documents = [
        ("copyright", content.file(COPYRIGHT).to_vec()),
        ("changelog.gz", gzip(content.file(CHANGELOG))?),
        ("changelog.Debian.gz", gzip(changelog(content)?.as_bytes())?),
    ];
    for (name, bytes) in documents {
        entries.push(Entry::file(&format!("usr/share/doc/paramedic/{name}"), &bytes));
    }
    for (page, text) in &content.pages {
        entries.push(Entry::file(&format!("usr/share/man/man1/{page}.gz"), &gzip(text)?));
    }
    for (shell, script) in &content.completions {
        let path = match *shell {
            "bash" => "bash-completion/completions/paramedic",
            "zsh" => "zsh/vendor-completions/_paramedic",
            _ => "fish/vendor_completions.d/paramedic.fish",
        };
        entries.push(Entry::file(&format!("usr/share/{path}"), script));
    }
    layer::write_dated(entries, content.created)
}

/// What dpkg reads of the package. `installed` is about the bytes that it takes on the disk.
fn control(content: &Content, installed: usize) -> String {
    format!(
        "Package: paramedic\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {}\n\
         Section: admin\n\
         Priority: optional\n\
         Description: first responder for the services of a machine\n \
         Paramedic watches services through their health checks and through eBPF,\n \
         decides by a random forest, applies the mildest remedy that works, verifies it\n \
         and explains it.\n \
         .\n \
         The package has a systemd unit for machines without a cluster. It starts when\n \
         /etc/default/paramedic says what to watch.\n",
        version::of_debian(content.version),
        content.arch.name(),
        installed.div_ceil(1024),
    )
}

/// The packaging's own history: one entry, which leads to the program's.
fn changelog(content: &Content) -> Result<String> {
    let date = Timestamp::from_second(content.created.try_into()?)?;
    Ok(format!(
        "paramedic ({}) unstable; urgency=medium\n\n  * Release {}: changelog.gz lists its changes.\n\n \
         -- {MAINTAINER}  {}\n",
        version::of_debian(content.version),
        content.version,
        date.strftime("%a, %d %b %Y %H:%M:%S +0000"),
    ))
}
