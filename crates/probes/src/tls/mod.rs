//! Responses in TLS, of targets that opted in: programs on the functions that take the plaintext.
//!
//! The functions are found in the files that a target's processes have mapped ([`Finder`]), and
//! programs are attached to the file, wherever it is mapped ([`Kernel::attach_tls`]): once for each
//! file, however many targets use it. The programs look at processes of targets alone, but every
//! process that uses the file pays for the trap. So nothing is loaded before the first target opts
//! in, and nothing stays attached when the last one of a file is gone.
//!
//! Out of reach are libraries whose functions have no names left (most of rustls, stripped programs
//! of Go), and the JVM's own TLS, which is no native code.
//!
//! [`Kernel::attach_tls`]: crate::Kernel::attach_tls
mod attach;
mod elf;
mod find;
mod maps;

pub use attach::TlsError;
pub use elf::Refusal;
pub use find::{Finder, Findings, Inode, Library};

pub(crate) use attach::{Attachments, probe};

/// A function that a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// OpenSSL's `SSL_write`.
    SslWrite,
    /// OpenSSL's `SSL_write_ex`.
    SslWriteEx,
    /// OpenSSL's `SSL_sendfile`.
    SslSendfile,
    /// OpenSSL's `SSL_free`.
    SslFree,
    /// OpenSSL's `SSL_clear`.
    SslClear,
    /// `Write` of Go's `crypto/tls`.
    GoWrite,
    /// `Close` of Go's `crypto/tls`.
    GoClose,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SslWrite,
        Self::SslWriteEx,
        Self::SslSendfile,
        Self::SslFree,
        Self::SslClear,
        Self::GoWrite,
        Self::GoClose,
    ];

    /// Its symbol.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::SslWrite => "SSL_write",
            Self::SslWriteEx => "SSL_write_ex",
            Self::SslSendfile => "SSL_sendfile",
            Self::SslFree => "SSL_free",
            Self::SslClear => "SSL_clear",
            Self::GoWrite => "crypto/tls.(*Conn).Write",
            Self::GoClose => "crypto/tls.(*Conn).Close",
        }
    }

    /// Whether it writes plaintext: without one of these a file is of no use.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::SslWrite | Self::SslWriteEx | Self::GoWrite)
    }

    /// The programs at its begin and at its end.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::SslWrite => &["ssl_call", "ssl_write"],
            Self::SslWriteEx => &["ssl_call", "ssl_write_ex"],
            Self::SslSendfile => &["ssl_call", "ssl_sendfile"],
            Self::SslFree | Self::SslClear => &["ssl_end"],
            Self::GoWrite => &["go_write"],
            Self::GoClose => &["go_close"],
        }
    }
}
